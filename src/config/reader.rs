//! Reads settings by variable, and keeps what was wrong with them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Default, Kind, Origin, Problem, Variable, Warning,
    source::{Machine, Resolved, Setting, Source},
};

/// Why a value is refused, where what is allowed does not say it plainly enough.
pub(super) type Refused = Option<String>;

/// Hands out values of variables. A value that is not allowed becomes a problem and reads as the
/// default, so that one pass finds everything that is wrong.
pub(super) struct Reader {
    pub(super) machine: Machine,
    settings: BTreeMap<&'static str, Setting>,
    derived: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        let machine = source.machine;
        let Resolved { settings, problems, warnings } = source.resolve();
        Self { machine, settings, derived: BTreeMap::new(), problems, warnings }
    }

    /// Whether the variable was given.
    pub(super) fn is_given(&self, variable: &Variable) -> bool {
        self.settings.contains_key(variable.name)
    }

    /// Where the variable was given.
    pub(super) fn origin(&self, variable: &Variable) -> Option<&Origin> {
        self.settings.get(variable.name).map(|setting| &setting.origin)
    }

    /// The value in effect, as people may see it.
    pub(super) fn effective(&self, variable: &Variable) -> String {
        if let Some(text) = self.derived.get(variable.name) {
            return text.clone();
        }
        match (self.settings.get(variable.name), variable.default) {
            (Some(setting), _) => variable.shown(&setting.value),
            (None, Default::Value(text)) => variable.shown(text),
            (None, Default::Unset | Default::Derived(_)) => String::new(),
        }
    }

    /// Says what a variable comes to, where that is not what was given or the default as written.
    pub(super) fn derived(&mut self, variable: &Variable, value: impl ToString) {
        self.derived.insert(variable.name, value.to_string());
    }

    /// The value if it is given and `accept` takes it, else the default.
    pub(super) fn take<T>(
        &mut self,
        variable: &Variable,
        accept: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let default = match variable.default {
            Default::Value(text) => Some(text),
            Default::Unset | Default::Derived(_) => None,
        };
        let refused = match self.settings.get(variable.name).map(|setting| accept(&setting.value)) {
            Some(Ok(value)) => return Some(value),
            Some(Err(detail)) => Some(detail),
            None => None,
        };
        if let Some(detail) = refused {
            self.refuse(variable, detail);
        }
        default.and_then(|text| accept(text).ok())
    }

    /// A whole number ([`Kind::Integer`]).
    pub(super) fn integer<T: TryFrom<u64>>(&mut self, variable: &Variable) -> Option<T> {
        self.take(variable, |text| {
            let Kind::Integer { min, max, .. } = variable.kind else { return Err(None) };
            // `u64::from_str` would take a leading plus sign.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.then(|| text.parse::<u64>().ok()).flatten().ok_or(None)?;
            if !(min..=max).contains(&number) {
                return Err(None);
            }
            T::try_from(number).map_err(|_| None)
        })
    }

    /// Seconds ([`Kind::Seconds`]).
    pub(super) fn seconds(&mut self, variable: &Variable) -> Option<Duration> {
        self.take(variable, |text| {
            let Kind::Seconds { min, max } = variable.kind else { return Err(None) };
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let number = plain.then(|| text.parse::<f64>().ok()).flatten().ok_or(None)?;
            if !(min..=max).contains(&number) {
                return Err(None);
            }
            Duration::try_from_secs_f64(number).map_err(|_| None)
        })
    }

    /// One of a few words ([`Kind::Choice`]), in any case.
    pub(super) fn choice(&mut self, variable: &Variable) -> Option<&'static str> {
        self.take(variable, |text| {
            let Kind::Choice(words) = variable.kind else { return Err(None) };
            words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied().ok_or(None)
        })
    }

    /// `on` or `off` ([`Kind::Switch`]), or what people write for them.
    pub(super) fn switch(&mut self, variable: &Variable) -> bool {
        self.take(variable, |text| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(true),
            "off" | "false" | "no" | "0" => Ok(false),
            _ => Err(None),
        })
        .unwrap_or_default()
    }

    /// Items separated by commas; each must pass.
    pub(super) fn list<T>(
        &mut self,
        variable: &Variable,
        accept: impl Fn(&str) -> Result<T, Refused>,
    ) -> Vec<T> {
        self.take(variable, |text| {
            let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
            items.map(&accept).collect::<Result<Vec<_>, _>>()
        })
        .unwrap_or_default()
    }

    /// The value that was given is not allowed.
    pub(super) fn refuse(&mut self, variable: &Variable, detail: Refused) {
        let Some(setting) = self.settings.get(variable.name) else { return };
        self.problems.push(Problem::Invalid {
            name: variable.name,
            value: variable.shown(&setting.value),
            origin: setting.origin.clone(),
            allowed: variable.allowed().into_owned(),
            detail,
        });
    }

    /// The variable is needed and was not given.
    pub(super) fn missing(&mut self, variable: &Variable, needed: &str) {
        self.problems.push(Problem::Missing { name: variable.name, needed: needed.to_owned() });
    }

    /// Values that are fine alone and not together.
    pub(super) fn conflict(&mut self, variables: &[&Variable], message: impl Into<String>) {
        let names = variables.iter().map(|variable| variable.name).collect();
        self.problems.push(Problem::Conflict { names, message: message.into() });
    }

    /// Something that looks wrong.
    pub(super) fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(Warning(message.into()));
    }

    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Warning>) {
        (self.problems, self.warnings)
    }
}

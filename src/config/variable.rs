//! What a variable is: its name, what it may be, what it is when it is left out.

use std::{borrow::Cow, fmt::Write as _};

/// One configuration variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name, in capitals.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when it is left out.
    pub default: Default,
    /// What it does, in one or two sentences.
    pub help: &'static str,
}

/// What a variable may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number in a range, ends included.
    Integer {
        /// The least allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A number of seconds in a range, ends included; decimals are fine.
    Seconds {
        /// The least allowed.
        min: f64,
        /// The largest allowed.
        max: f64,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// `on` or `off`.
    Switch,
    /// Text with a rule of its own, told in words.
    Text(&'static str),
    /// As [`Kind::Text`], and never shown.
    Secret(&'static str),
    /// HTTP headers, `Name: value` separated by `;` or line ends; only their names are shown.
    Headers(&'static str),
}

/// What a variable is when it is left out.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// Nothing.
    Unset,
    /// This text, read as if it had been given.
    Value(&'static str),
    /// Found from other things, told in words.
    Derived(&'static str),
}

impl Variable {
    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::Integer { min, max, unit: "" } => format!("a whole number from {min} to {max}").into(),
            Kind::Integer { min, max, unit } => {
                format!("a whole number of {unit} from {min} to {max}").into()
            }
            Kind::Seconds { min, max } => format!("a number of seconds from {min} to {max}").into(),
            Kind::Choice(words) => words.join(", ").into(),
            Kind::Switch => "on, off".into(),
            Kind::Text(allowed) | Kind::Secret(allowed) | Kind::Headers(allowed) => allowed.into(),
        }
    }

    /// What its number counts; empty for what is not a number.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Integer { unit, .. } => unit,
            Kind::Seconds { .. } => "seconds",
            _ => "",
        }
    }

    /// Whether its value is never shown whole.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_) | Kind::Headers(_))
    }

    /// A value as people may see it: on one line, secrets masked, not longer than a reader wants.
    #[must_use]
    pub fn shown(&self, value: &str) -> String {
        match self.kind {
            Kind::Secret(_) => "***".to_owned(),
            Kind::Headers(_) => header_names(value),
            _ => one_line(&without_credentials(value), 160),
        }
    }
}

/// Splits a [`Kind::Headers`] value into its headers: by lines if it has several, else by `;`.
pub(super) fn split_headers(value: &str) -> impl Iterator<Item = &str> {
    let separator = if value.contains('\n') { '\n' } else { ';' };
    value.split(separator).map(str::trim).filter(|header| !header.is_empty())
}

/// `text` with control characters escaped, cut after `max_chars`.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max_chars * 4));
    for (count, character) in text.chars().enumerate() {
        if count == max_chars {
            let _ = write!(line, "… ({} characters)", text.chars().count());
            break;
        }
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The names alone; what has no `:` may be a stray secret and is not shown.
fn header_names(value: &str) -> String {
    let shown = split_headers(value).map(|header| match header.split_once(':') {
        Some((name, _)) => format!("{}: ***", one_line(name.trim(), 64)),
        None => "***".to_owned(),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// A URL's user and password are masked, whether the rest is a URL or only nearly one.
fn without_credentials(value: &str) -> Cow<'_, str> {
    let Some(start) = value.find("//").map(|at| at + 2) else { return value.into() };
    match value[start..].rfind('@') {
        Some(at) => format!("{}***{}", &value[..start], &value[start + at..]).into(),
        None => value.into(),
    }
}

/// Declares a room's variables as constants named after themselves, and the table of them all.
macro_rules! variables {
    ($($name:ident: $kind:expr, $default:expr, $help:expr;)+) => {
        $(const $name: $crate::config::variable::Variable = $crate::config::variable::Variable {
            name: stringify!($name),
            kind: $kind,
            default: $default,
            help: $help,
        };)+

        /// The variables of this room, in the order in which they are documented.
        pub(super) const TABLE: &[$crate::config::variable::Variable] = &[$($name),+];
    };
}
pub(super) use variables;

#[cfg(test)]
mod tests {
    use super::*;

    const fn variable(kind: Kind) -> Variable {
        Variable { name: "X", kind, default: Default::Unset, help: "" }
    }

    #[test]
    fn shown_secret_is_masked_whole() {
        assert_eq!(variable(Kind::Secret("")).shown("hunter2"), "***");
    }

    #[test]
    fn shown_headers_keep_names_alone() {
        let headers = variable(Kind::Headers(""));
        assert_eq!(headers.shown("X-Key: abc; hunter2"), "X-Key: ***; ***");
        assert_eq!(headers.shown("X-Key: a;b\nY: c"), "X-Key: ***; Y: ***");
    }

    #[test]
    fn shown_url_hides_its_credentials() {
        let text = variable(Kind::Text(""));
        assert_eq!(text.shown("http://me:p@ss@host/x"), "http://***@host/x");
        assert_eq!(text.shown("not//me:pw@host"), "not//***@host");
        assert_eq!(text.shown("http://host/x"), "http://host/x");
    }

    #[test]
    fn shown_text_stays_on_one_line_and_short() {
        let text = variable(Kind::Text(""));
        assert_eq!(text.shown("a\nb\u{1b}[0m\u{2028}"), "a\\nb\\u{1b}[0m\\u{2028}");
        assert_eq!(text.shown(&"é".repeat(200)), format!("{}… (200 characters)", "é".repeat(160)));
    }
}

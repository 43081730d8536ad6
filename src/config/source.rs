//! Where values come from: the environment, over a `.env` file.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
    thread,
};

use super::{
    Problem, Variable, Warning, dotenv,
    names::{known, suspicious},
    variable::one_line,
};

/// The file of variables that is read when none is named: in the working directory, if it is there.
pub const DEFAULT_ENV_FILE: &str = ".env";

/// A larger file of variables is not one.
const MAX_ENV_FILE_BYTES: u64 = 1024 * 1024;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The process's environment.
    Environment,
    /// The file of variables.
    File {
        /// Its path.
        path: String,
        /// Counted from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    /// As it stands behind a name or a value: nothing for the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => Ok(()),
            Self::File { path, line } => write!(f, " ({path} line {line})"),
        }
    }
}

/// What the machine is like, where a default depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// Whether the log goes to a terminal.
    pub terminal: bool,
}

/// Names and values as they were given, not looked at yet.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) machine: Machine,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

#[derive(Clone)]
struct Entry {
    name: String,
    value: String,
    origin: Origin,
}

impl fmt::Debug for Entry {
    /// Values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***{}", self.name, self.origin)
    }
}

/// A value that was given for a known variable.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// What a source says about known variables, and what is odd about the rest.
pub(super) struct Resolved {
    pub(super) settings: BTreeMap<&'static str, Setting>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl Source {
    /// This process's environment over `env_file`, or over [`DEFAULT_ENV_FILE`] if that is there.
    #[must_use]
    pub fn process(env_file: Option<&Path>) -> Self {
        let mut source = Self::environment(std::iter::empty::<(String, String)>());
        source.machine.terminal = io::stderr().is_terminal();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            match (value.into_string(), known(name)) {
                (Ok(value), _) => source.push(name, value, Origin::Environment),
                (Err(_), Some(variable)) => source.problems.push(Problem::Invalid {
                    name: variable.name,
                    value: "…".to_owned(),
                    origin: Origin::Environment,
                    allowed: variable.allowed().into_owned(),
                    detail: Some("the value is not UTF-8".to_owned()),
                }),
                (Err(_), None) => {}
            }
        }
        source.read_env_file(env_file)
    }

    /// These names and values, as if they were the environment, and nothing else.
    pub fn environment<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut source = Self {
            machine: Machine { cores, terminal: false },
            entries: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        for (name, value) in pairs {
            source.push(name, value, Origin::Environment);
        }
        source
    }

    /// Puts the text of a file of variables below what is there.
    #[must_use]
    pub fn with_env_text(mut self, path: &str, text: &str) -> Self {
        for line in dotenv::parse(text) {
            let origin = Origin::File { path: path.to_owned(), line: line.number };
            match line.content {
                Ok((name, value)) => self.push(name, value, origin),
                Err(message) => {
                    self.problems.push(Problem::Line { path: path.to_owned(), line: line.number, message });
                }
            }
        }
        self
    }

    /// As if the machine were like this.
    #[must_use]
    pub fn on(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    fn push(&mut self, name: impl Into<String>, value: impl Into<String>, origin: Origin) {
        self.entries.push(Entry { name: name.into(), value: value.into(), origin });
    }

    fn read_env_file(mut self, named: Option<&Path>) -> Self {
        let path = named.unwrap_or(Path::new(DEFAULT_ENV_FILE));
        let shown = one_line(&path.to_string_lossy(), 160);
        match read_text(path) {
            Ok(text) => self.with_env_text(&shown, &text),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => self,
            // A Python environment is often a folder of this name.
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::IsADirectory => {
                self.warnings.push(Warning(format!("{shown} is a folder, not a file of variables; ignored")));
                self
            }
            Err(error) => {
                let message = format!("cannot be read as a file of NAME=value lines: {error}");
                self.problems.push(Problem::File { path: shown, message });
                self
            }
        }
    }

    /// Sorts entries by known variable. Empty values count as left out; the environment goes
    /// before the file; in one place one variable has one value, whatever the spellings.
    pub(super) fn resolve(self) -> Resolved {
        let mut seen: BTreeMap<(&'static str, bool), Entry> = BTreeMap::new();
        let (mut problems, mut warnings) = (self.problems, self.warnings);
        for mut entry in self.entries {
            entry.value = entry.value.trim().to_owned();
            let Some(variable) = known(&entry.name) else {
                if let Some(sentence) = suspicious(&entry.name) {
                    warnings.push(Warning(format!("{sentence}{}", entry.origin)));
                }
                continue;
            };
            if entry.value.is_empty() {
                continue;
            }
            if is_service_link(variable, &entry) {
                warnings.push(Warning(format!(
                    "{} is `{}`, which Kubernetes sets for a neighbouring service; ignored",
                    entry.name,
                    one_line(&entry.value, 64)
                )));
                continue;
            }
            let from_file = entry.origin != Origin::Environment;
            match seen.get(&(variable.name, from_file)) {
                Some(first) if first.value != entry.value => problems.push(Problem::Ambiguous {
                    name: variable.name,
                    first: format!("{}{}", first.name, first.origin),
                    second: format!("{}{}", entry.name, entry.origin),
                }),
                Some(_) => {}
                None => drop(seen.insert((variable.name, from_file), entry)),
            }
        }
        let mut settings = BTreeMap::new();
        // Of one name, `false` (the environment) sorts before `true` (the file).
        for ((name, _), Entry { value, origin, .. }) in seen {
            settings.entry(name).or_insert(Setting { value, origin });
        }
        Resolved { settings, problems, warnings }
    }
}

/// A service called `metrics` makes Kubernetes set `METRICS_PORT=tcp://10.96.0.1:9090`.
fn is_service_link(variable: &Variable, entry: &Entry) -> bool {
    variable.name.ends_with("PORT")
        && entry.origin == Origin::Environment
        && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| entry.value.starts_with(scheme))
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(MAX_ENV_FILE_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_ENV_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(source: Source) -> (Option<String>, usize, usize) {
        let resolved = source.resolve();
        let port = resolved.settings.get("PORT").map(|setting| setting.value.clone());
        (port, resolved.problems.len(), resolved.warnings.len())
    }

    fn environment(pairs: &[(&str, &str)]) -> Source {
        Source::environment(pairs.iter().copied())
    }

    #[test]
    fn environment_goes_before_file() {
        let source = environment(&[("port", "1")]).with_env_text(".env", "PORT=2\n");
        assert_eq!(port(source), (Some("1".to_owned()), 0, 0));
    }

    #[test]
    fn empty_value_counts_as_left_out() {
        let source = environment(&[("PORT", "  ")]).with_env_text(".env", "PORT=2\n");
        assert_eq!(port(source), (Some("2".to_owned()), 0, 0));
        assert_eq!(port(environment(&[("PORT", "")])), (None, 0, 0));
    }

    #[test]
    fn spellings_that_differ_in_value_are_a_problem() {
        assert_eq!(port(environment(&[("PORT", "1"), ("Port", "1")])).1, 0);
        let problems = environment(&[("PORT", "1"), ("Port", "2")]).resolve().problems;
        assert_eq!(
            problems[0].to_string(),
            "PORT is given twice with different values (as PORT and as Port); keep one"
        );
        let problems = environment(&[]).with_env_text("x.env", "PORT=1\nport=2\n").resolve().problems;
        assert!(problems[0].to_string().contains("(as PORT (x.env line 1) and as port (x.env line 2))"));
    }

    #[test]
    fn malformed_line_is_a_problem_with_its_number() {
        let problems = environment(&[]).with_env_text("x.env", "PORT=1\nPORT 2\n").resolve().problems;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].to_string(), "x.env line 2: expected NAME=value");
    }

    #[test]
    fn service_link_of_a_neighbour_is_ignored_with_a_warning() {
        let resolved = environment(&[("METRICS_PORT", "tcp://10.96.0.1:9090")]).resolve();
        assert!(resolved.settings.is_empty() && resolved.problems.is_empty());
        assert_eq!(resolved.warnings.len(), 1);
    }

    #[test]
    fn unknown_name_is_no_problem() {
        assert_eq!(port(environment(&[("STORAGE_BACKED", "file"), ("PATH", "/bin")])), (None, 0, 1));
    }

    #[test]
    fn named_file_that_is_absent_is_a_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = folder.path().join("absent.env");
        let problems = environment(&[]).read_env_file(Some(&absent)).resolve().problems;
        assert!(matches!(&problems[..], [Problem::File { path, .. }] if path.ends_with("absent.env")));
    }

    #[test]
    fn named_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.env");
        std::fs::write(&path, "PORT=7\n").expect("written");
        assert_eq!(port(environment(&[]).read_env_file(Some(&path))).0.as_deref(), Some("7"));
        std::fs::write(&path, [0xff, b'=']).expect("written");
        assert_eq!(port(environment(&[]).read_env_file(Some(&path))).1, 1);
        std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).expect("written");
        assert_eq!(port(environment(&[]).read_env_file(Some(&path))).1, 1);
    }

    #[test]
    fn debug_of_a_source_shows_no_values() {
        let source = environment(&[("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

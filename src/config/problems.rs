//! What can be wrong with a configuration, and what only looks wrong.

use std::fmt;

use super::source::Origin;

/// One thing that must be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value that is not allowed. `value` is masked where it is secret.
    #[error(
        "{name} is `{value}`{origin}; allowed: {allowed}{}",
        .detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default()
    )]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What was given.
        value: String,
        /// Where.
        origin: Origin,
        /// What is allowed, in words.
        allowed: String,
        /// What is wrong with this value, where that is not plain.
        detail: Option<String>,
    },
    /// A variable that is needed and not set.
    #[error("{name} is not set; {needed}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// Why it is needed, and what it should be.
        needed: String,
    },
    /// Variables that are fine alone and not together.
    #[error("{} do not agree: {message}", .names.join(" and "))]
    Conflict {
        /// The variables.
        names: Vec<&'static str>,
        /// What is allowed.
        message: String,
    },
    /// One variable, given twice with different values in the same place.
    #[error("{name} is given twice with different values (as {first} and as {second}); keep one")]
    Ambiguous {
        /// The variable.
        name: &'static str,
        /// One spelling, and where.
        first: String,
        /// The other.
        second: String,
    },
    /// A line of the file of variables that cannot be read.
    #[error("{path} line {line}: {message}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The file of variables cannot be read at all.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// Everything that is wrong, together. `Display` gives one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [_] => writeln!(f, "the configuration has a problem:")?,
            problems => writeln!(f, "the configuration has {} problems:", problems.len())?,
        }
        self.0.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Something that looks wrong, and does not keep the server from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

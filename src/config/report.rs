//! The configuration in effect, as `check` prints it.

use std::fmt;

use super::{Loaded, Origin, ROOMS, reader::Reader};

/// One variable in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The room's heading.
    pub room: &'static str,
    /// The variable.
    pub name: &'static str,
    /// Its value, secrets masked; empty if it has none.
    pub value: String,
    /// Where it was given; `None` for a default.
    pub origin: Option<Origin>,
}

/// Prints a loaded configuration: warnings first, then a table.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a>(pub &'a Loaded);

pub(super) fn effective(reader: &Reader) -> Vec<Effective> {
    let rows = ROOMS.iter().flat_map(|room| room.variables.iter().map(|variable| (room.title, variable)));
    rows.map(|(room, variable)| Effective {
        room,
        name: variable.name,
        value: reader.effective(variable),
        origin: reader.origin(variable).cloned(),
    })
    .collect()
}

impl Effective {
    /// Where the value comes from, in a word or two.
    #[must_use]
    pub fn from(&self) -> String {
        match &self.origin {
            Some(Origin::Environment) => "environment".to_owned(),
            Some(Origin::File { path, line }) => format!("{path} line {line}"),
            None if self.value.is_empty() => String::new(),
            None => "default".to_owned(),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.0.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let rows = &self.0.effective;
        let widest = |of: fn(&Effective) -> usize| rows.iter().map(of).max().unwrap_or_default();
        let (name, from) = (widest(|row| row.name.len()), widest(|row| row.from().chars().count()));
        let mut room = "";
        for row in rows {
            if room != row.room {
                room = row.room;
                writeln!(f, "\n{room}")?;
            }
            let value = if row.value.is_empty() { "-" } else { &row.value };
            writeln!(f, "  {:name$}  {:from$}  {value}", row.name, row.from())?;
        }
        Ok(())
    }
}

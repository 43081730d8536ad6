use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

/// Columns where nobody knows how many there are.
const DEFAULT_COLUMNS: usize = 120;

/// Where results go.
pub struct Output {
    to: Box<dyn Write + Send>,
    /// Columns of the terminal; `None` where it is none.
    columns: Option<usize>,
    json: bool,
}

impl Output {
    /// Standard output; as JSON, or as text that fits a terminal if it is one.
    #[must_use]
    pub fn standard(json: bool) -> Self {
        let columns = io::stdout().is_terminal().then(|| {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
            size.map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0)
                .unwrap_or(DEFAULT_COLUMNS)
        });
        Self { to: Box::new(io::stdout()), columns, json }
    }

    /// Somewhere else, as if it were a terminal with so many columns or none.
    #[must_use]
    pub fn new(to: impl Write + Send + 'static, json: bool, columns: Option<usize>) -> Self {
        Self { to: Box::new(to), columns, json }
    }

    /// Whether results are wanted as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// Writes a value in the form that is wanted.
    pub(super) fn line(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        let mut line = if self.json { serde_json::to_string(value)? } else { text() };
        line.push('\n');
        self.write(&line)
    }

    /// Writes text, where text is wanted.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.write(text) }
    }

    /// A reader that has gone away (`list | head`) is no failure.
    fn write(&mut self, text: &str) -> io::Result<()> {
        match self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("columns", &self.columns)
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

/// Text of others on one line: control characters and those that turn the direction are escaped,
/// so that a prompt cannot write over what is beside it.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        let turns =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}') {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// A number of bytes for people: `1.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of a unit, rounded down: 1023.9 KiB, never 1024.0.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_control_and_keeps_the_rest() {
        assert_eq!(plain("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        assert_eq!(plain("雪の灯台 🗼 é"), "雪の灯台 🗼 é");
    }

    #[test]
    fn bytes_are_told_in_the_largest_unit_that_fits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_500_000, "1.4 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}

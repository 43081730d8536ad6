//! Reads the text of a `.env` file, with line numbers.

use std::{cell::Cell, io, rc::Rc};

/// A line that sets a variable, or one that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    /// Name and value, or what is wrong.
    pub(super) content: Result<(String, String), String>,
}

/// Reads all lines; a malformed one does not hide the ones after it.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let lines_read = Rc::new(Cell::new(0));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let reader = LineReader { rest: text.as_bytes(), lines_read: Rc::clone(&lines_read) };
    let items = dotenvy::Iter::new(reader);
    items
        .map(|item| {
            let last = lines_read.get();
            match item {
                Ok((name, value)) => Line { number: last, content: Ok((name, value)) },
                Err(dotenvy::Error::LineParse(line, _)) => {
                    let first = last.saturating_sub(line.trim_end().matches('\n').count()).max(1);
                    Line { number: first, content: Err(what_is_wrong(text, first)) }
                }
                Err(error) => Line { number: last, content: Err(error.to_string()) },
            }
        })
        .collect()
}

/// Gives one line a call, so that a buffered reader above never runs ahead of the line it hands out.
struct LineReader<'a> {
    rest: &'a [u8],
    lines_read: Rc<Cell<usize>>,
}

impl io::Read for LineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let length = line.min(buffer.len());
        let (taken, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(taken);
        self.rest = rest;
        if taken.ends_with(b"\n") || (rest.is_empty() && !taken.is_empty()) {
            self.lines_read.set(self.lines_read.get() + 1);
        }
        Ok(length)
    }
}

/// Tells what is wrong with a line without repeating its value: it may be a secret.
fn what_is_wrong(text: &str, number: usize) -> String {
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    match line.split_once('=') {
        Some((name, _)) if is_name(name.trim_end()) => format!(
            "the value of {} cannot be read; put one with spaces, quotes, `#` or `$` in single quotes, \
             and close every quote",
            super::variable::one_line(name.trim_end(), 64)
        ),
        _ => "expected NAME=value".to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(number: usize, name: &str, value: &str) -> Line {
        Line { number, content: Ok((name.to_owned(), value.to_owned())) }
    }

    #[test]
    fn parse_plain_file_gives_names_values_and_lines() {
        let text = "\u{feff}# a comment\n\nPORT=8000\r\nexport HOST = \"::1\" # here\nEMPTY=\n\
                    TOKEN='a#b$c'\nHEADERS=\"A: 1\nB: 2\"\nLAST=x";
        let expected = [
            ok(3, "PORT", "8000"),
            ok(4, "HOST", "::1"),
            ok(5, "EMPTY", ""),
            ok(6, "TOKEN", "a#b$c"),
            ok(8, "HEADERS", "A: 1\nB: 2"),
            ok(9, "LAST", "x"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn parse_malformed_line_names_its_number_and_reads_on() {
        let lines = parse("A=1\n\nnonsense\nTOKEN=hunter2 and more\nB=2\n");
        assert_eq!(lines[0], ok(1, "A", "1"));
        assert_eq!((lines[1].number, lines[1].content.clone()), (3, Err("expected NAME=value".to_owned())));
        assert_eq!(lines[2].number, 4);
        let message = lines[2].content.clone().expect_err("malformed");
        assert!(message.contains("TOKEN") && !message.contains("hunter2"), "{message}");
        assert_eq!(lines[3], ok(5, "B", "2"));
    }

    #[test]
    fn parse_open_quote_is_told_at_the_line_where_it_opens() {
        let lines = parse("A=1\nB='open\nC=3\nD=4\n");
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].number, 2);
        assert!(lines[1].content.is_err());
    }

    #[test]
    fn parse_line_longer_than_a_buffer_counts_once() {
        let text = format!("A={}\nB=2\n", "x".repeat(20_000));
        assert_eq!(parse(&text)[1], ok(2, "B", "2"));
    }
}

use chrono::{DateTime, Utc};

use super::output::{bytes, plain};
use crate::image::Metadata;

/// Titles and widths; the prompt takes what is left.
const COLUMNS: [(&str, usize); 6] =
    [("ID", 36), ("CREATED", 20), ("EXPIRES IN", 10), ("SIZE", 10), ("PIXELS", 10), ("MODEL", 20)];

/// A prompt is cut to at least this, however narrow the terminal.
const LEAST_PROMPT: usize = 20;

/// The head of the table.
pub(super) fn head() -> String {
    let mut line = String::new();
    for (title, width) in COLUMNS {
        line.push_str(&padded(title, width));
    }
    line + "PROMPT"
}

/// An image as a row, the prompt cut where the terminal ends.
pub(super) fn row(image: &Metadata, now: DateTime<Utc>, columns: Option<usize>) -> String {
    let cells = [
        image.image_id.to_string(),
        image.created_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        duration(image.expires_at - now),
        bytes(image.size_bytes),
        format!("{}x{}", image.width, image.height),
        cut(&plain(&image.generation.model), COLUMNS[5].1),
    ];
    let mut line = String::new();
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        line.push_str(&padded(cell, width));
    }
    let prompt = plain(&image.generation.prompt);
    let taken: usize = COLUMNS.iter().map(|(_, width)| width + 2).sum();
    line + &match columns {
        Some(columns) => cut(&prompt, columns.saturating_sub(taken).max(LEAST_PROMPT)),
        None => prompt,
    }
}

/// How long, for people: `59s`, `59m`, `23h`, `400d`.
fn duration(left: chrono::TimeDelta) -> String {
    match left.num_seconds().max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn padded(text: &str, width: usize) -> String {
    let padding = width.saturating_sub(columns_of(text)) + 2;
    format!("{text}{}", " ".repeat(padding))
}

/// The beginning of a text that fits.
fn cut(text: &str, width: usize) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fitting = text.chars().take_while(|character| {
        let taken = columns_of_char(*character);
        let fits = taken <= left;
        left = left.saturating_sub(taken);
        fits
    });
    fitting.chain(['…']).collect()
}

fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// As terminals do, nearly: East Asian scripts and pictures are wide, marks take no room.
fn columns_of_char(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_marked() {
        assert_eq!(cut("a lighthouse", 12), "a lighthouse");
        assert_eq!(cut("a lighthouse", 11), "a lighthou…");
        assert_eq!(cut("雪の中の灯台", 7), "雪の中…");
        assert_eq!(cut("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
        assert_eq!(columns_of(&cut("雪の中の灯台", 6)), 5);
    }

    #[test]
    fn duration_is_told_in_its_largest_unit() {
        for (seconds, text) in [(-5, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_400, "1d")] {
            assert_eq!(duration(TimeDelta::seconds(seconds)), text);
        }
    }
}

//! What a downloaded image is called (RFC 6266, RFC 8187).

use http::HeaderValue;

/// Characters of the name before its extension, at most.
const MAX_CHARS: usize = 80;
/// Names that stand for devices on Windows.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
    "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// `attachment`, with a file name made from the prompt, or `fallback` if nothing of it is left.
/// `None` cannot be: what is written here is ASCII.
pub(super) fn attachment(prompt: &str, fallback: &str, extension: &str) -> Option<HeaderValue> {
    let name = file_name(prompt);
    let name = if name.is_empty() { fallback.to_owned() } else { name };
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let has_letters = ascii.contains(|c: char| c.is_ascii_alphanumeric());
    let plain = if has_letters { ascii.as_str() } else { fallback };
    let mut field = format!("attachment; filename=\"{plain}.{extension}\"");
    if !name.is_ascii() {
        field += &format!("; filename*=UTF-8''{}", encoded(&format!("{name}.{extension}")));
    }
    HeaderValue::try_from(field).ok()
}

/// The first words of a prompt, without what a file system or a shell takes for something else, or a
/// reader for another name.
fn file_name(prompt: &str) -> String {
    let mut name = String::new();
    let mut count = 0;
    for c in prompt.chars() {
        let c = if c.is_whitespace() || is_special(c) { ' ' } else { c };
        if is_invisible(c) || c == ' ' && (name.is_empty() || name.ends_with(' ')) {
            continue;
        }
        if count == MAX_CHARS {
            // Not in the middle of a word, if there is another.
            let end = if c == ' ' { None } else { name.rfind(' ').filter(|end| *end > 0) };
            name.truncate(end.unwrap_or(name.len()));
            break;
        }
        name.push(c);
        count += 1;
    }
    let name = name.trim_matches([' ', '.', '-', ',', '~']);
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    if DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)) {
        format!("{name}_")
    } else {
        name.to_owned()
    }
}

fn is_special(c: char) -> bool {
    c.is_control() || "\"\\/:*?<>|%$`'!;&".contains(c)
}

/// Marks that turn the direction of writing or are not seen at all: with them a name can look like
/// another.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// `value-chars` of RFC 8187, section 3.2.1.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(prompt: &str) -> String {
        let field = attachment(prompt, "the-id", "png").expect("a field");
        field.to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn name_is_made_from_the_prompt() {
        for (prompt, expected) in [
            ("a red fox in the snow", "attachment; filename=\"a red fox in the snow.png\""),
            ("  A  fox,\n\tsleeping.  ", "attachment; filename=\"A fox, sleeping.png\""),
            ("../../etc/passwd", "attachment; filename=\"etc passwd.png\""),
            ("say \"hi\"; rm -rf \\ $HOME", "attachment; filename=\"say hi rm -rf HOME.png\""),
            ("", "attachment; filename=\"the-id.png\""),
            ("???", "attachment; filename=\"the-id.png\""),
            ("CON", "attachment; filename=\"CON_.png\""),
            ("nul.txt", "attachment; filename=\"nul.txt_.png\""),
            ("a\r\nset-cookie: x=1", "attachment; filename=\"a set-cookie x=1.png\""),
            ("gpj\u{202e}fox", "attachment; filename=\"gpjfox.png\""),
        ] {
            assert_eq!(field(prompt), expected, "{prompt:?}");
        }
    }

    #[test]
    fn name_beyond_ascii_comes_in_both_forms() {
        assert_eq!(
            field("ein Füchslein 🦊"),
            "attachment; filename=\"ein F_chslein _.png\"; \
             filename*=UTF-8''ein%20F%C3%BCchslein%20%F0%9F%A6%8A.png"
        );
        assert_eq!(field("狐"), "attachment; filename=\"the-id.png\"; filename*=UTF-8''%E7%8B%90.png");
    }

    #[test]
    fn long_prompt_is_cut_between_words() {
        let field = field(&"fox ".repeat(100));
        let name = field.strip_prefix("attachment; filename=\"").and_then(|rest| rest.strip_suffix(".png\""));
        let name = name.expect("one name");
        assert!(name.len() <= MAX_CHARS && name.ends_with("fox"), "{name}");
        assert!(file_name(&"x".repeat(500)).len() == MAX_CHARS);
    }

    #[test]
    fn any_prompt_makes_a_field() {
        let all: String = (0..0x1_0000_u32).filter_map(char::from_u32).collect();
        for chunk in all.as_bytes().chunks(64) {
            let prompt = String::from_utf8_lossy(chunk);
            let field = field(&prompt);
            assert!(field.is_ascii() && field.matches('"').count() == 2, "{field}");
        }
    }
}

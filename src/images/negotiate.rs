//! Which format a client is sent that leaves it open (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

use crate::image::Format;

/// A weight in thousandths; 0 means not acceptable.
type Weight = u16;
const FULL: Weight = 1000;

/// The best format for a client with these `Accept` fields, for an image that is stored as `source`.
///
/// WebP is for those who name it: `*/*` comes from clients that have never heard of it, too. Else it
/// is the stored format, or PNG for a stored WebP. A client that accepts nothing of all this gets
/// that too: better than nothing, and allowed.
pub(super) fn best(headers: &HeaderMap, source: Format) -> Format {
    let fields: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok()).collect();
    let safe = if source == Format::WebP { Format::Png } else { source };
    let other = if safe == Format::Png { Format::Jpeg } else { Format::Png };
    let mut best = (0, safe);
    for format in [Format::WebP, safe, other] {
        let weight = weight(&fields, format);
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

fn weight(fields: &[&str], format: Format) -> Weight {
    if fields.is_empty() {
        return if format == Format::WebP { 0 } else { FULL };
    }
    // The most specific range that matches counts.
    let mut found: Option<(u8, Weight)> = None;
    for range in fields.iter().flat_map(|field| field.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let specific = match media {
            media if media.eq_ignore_ascii_case(format.media_type()) => 3,
            _ if format == Format::WebP => continue,
            media if media.eq_ignore_ascii_case("image/*") => 2,
            "*/*" => 1,
            _ => continue,
        };
        let weight = parts.find_map(|parameter| parameter.strip_prefix(['q', 'Q'])).map_or(FULL, quality);
        if found.is_none_or(|(before, _)| specific > before) {
            found = Some((specific, weight));
        }
    }
    found.map_or(0, |(_, weight)| weight)
}

/// `=0.8` in thousandths; what is no weight (section 12.4.2) counts as 0.
fn quality(text: &str) -> Weight {
    let Some(text) = text.trim_start().strip_prefix('=').map(str::trim) else { return 0 };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let thousandths = format!("{fraction:0<3}").parse::<Weight>().unwrap_or(0);
    (if whole == "1" { FULL + thousandths } else { thousandths }).min(FULL)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn best_for(accept: &[&'static str], source: Format) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        best(&headers, source)
    }

    #[test]
    fn format_follows_what_the_client_names() {
        use Format::{Jpeg, Png, WebP};
        for (accept, source, expected) in [
            (&[][..], Png, Png),
            (&[], Jpeg, Jpeg),
            (&[], WebP, Png),
            (&["*/*"], Png, Png),
            (&["image/*"], Jpeg, Jpeg),
            (&["image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"], Png, WebP),
            (&["image/webp"], Png, WebP),
            (&["IMAGE/WebP"], Png, WebP),
            (&["image/webp;q=0"], Png, Png),
            (&["image/webp;q=0", "*/*"], Jpeg, Jpeg),
            (&["image/webp;q=0.5, image/png"], Png, Png),
            (&["image/webp;q=0.5, image/png;q=0.4"], Png, WebP),
            (&["image/webp; Q=0.5, image/*;q=0.6"], Jpeg, Jpeg),
            (&["image/jpeg"], Png, Jpeg),
            (&["image/jpeg, image/png;q=0.9"], Png, Jpeg),
            (&["image/png;q=0, */*"], Png, Jpeg),
            (&["image/png", "image/webp"], Png, WebP),
            (&["text/html"], Png, Png),
            (&["image/webp;q=2"], Png, Png),
            (&["image/webp;q=0.0001"], Png, Png),
            (&["image/webp;q=0.001"], Png, WebP),
            (&["image/webp;q=1.000"], Png, WebP),
            (&["image/webp;q"], Png, Png),
            (&[";,;q=1"], Png, Png),
        ] {
            assert_eq!(best_for(accept, source), expected, "{accept:?} for {source}");
        }
    }
}

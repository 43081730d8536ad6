//! Which format a client is sent that leaves it open (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

use crate::{image::Format, request::accepted};

/// The best format for a client with these `Accept` fields, for an image that is stored as `source`.
///
/// WebP is for those who name it: `*/*` comes from clients that have never heard of it, too. Else it
/// is the stored format, or PNG for a stored WebP. A client that accepts nothing of all this gets
/// that too: better than nothing, and allowed.
pub(super) fn best(headers: &HeaderMap, source: Format) -> Format {
    let safe = if source == Format::WebP { Format::Png } else { source };
    let other = if safe == Format::Png { Format::Jpeg } else { Format::Png };
    let mut best = (0, safe);
    for format in [Format::WebP, safe, other] {
        let weight = weight(headers, format);
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

/// In thousandths; 0 means not acceptable.
fn weight(headers: &HeaderMap, format: Format) -> u16 {
    let accepted = accepted(headers, format.media_type());
    match format {
        Format::WebP if !accepted.by_name => 0,
        _ if !headers.contains_key(header::ACCEPT) => 1000,
        _ => accepted.weight,
    }
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

//! Which format a client is sent that leaves it open (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

use crate::{
    image::{Format, VariantFormat},
    request::accepted,
};

/// The best format for a client with these `Accept` fields, for an image that is stored as `source`. AVIF is for a
/// variant that may be one, `avif`.
///
/// WebP is for those who name it: `*/*` comes from clients that have never heard of it, too. AVIF is for those who name
/// it and do not accept WebP, which does nearly as well for a thirtieth of the work. Else it is the stored format, or PNG
/// for a stored WebP. A client that accepts nothing of all this gets that too: better than nothing, and allowed.
pub(super) fn best(headers: &HeaderMap, source: Format, avif: bool) -> VariantFormat {
    let safe = if source == Format::WebP { Format::Png } else { source };
    let other = if safe == Format::Png { Format::Jpeg } else { Format::Png };
    let webp = weight(headers, Format::WebP.into());
    let avif = if avif && webp == 0 { weight(headers, VariantFormat::Avif) } else { 0 };
    let mut best = (0, safe.into());
    for (weight, format) in [
        (webp, Format::WebP.into()),
        (avif, VariantFormat::Avif),
        (weight(headers, safe.into()), safe.into()),
        (weight(headers, other.into()), other.into()),
    ] {
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

/// In thousandths; 0 means not acceptable.
fn weight(headers: &HeaderMap, format: VariantFormat) -> u16 {
    let accepted = accepted(headers, format.media_type());
    match format {
        VariantFormat::Stored(Format::WebP) | VariantFormat::Avif if !accepted.by_name => 0,
        _ if !headers.contains_key(header::ACCEPT) => 1000,
        _ => accepted.weight,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn best_for(accept: &[&'static str], source: Format, avif: bool) -> VariantFormat {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        best(&headers, source, avif)
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
            for avif in [false, true] {
                assert_eq!(best_for(accept, source, avif), expected, "{accept:?} for {source}");
            }
        }
    }

    #[test]
    fn avif_is_for_those_who_name_it_and_not_webp() {
        let (png, webp) = (Format::Png.into(), Format::WebP.into());
        for (accept, expected) in [
            (&["image/avif"][..], VariantFormat::Avif),
            (&["image/avif,image/png,*/*;q=0.8"], VariantFormat::Avif),
            (&["image/avif,image/webp;q=0"], VariantFormat::Avif),
            (&["image/avif;q=0.5,image/png"], png),
            (&["image/avif;q=0,*/*"], png),
            (&["image/avif,image/webp;q=0.1"], webp),
            (&["image/avif,image/webp"], webp),
            (&["image/*"], png),
        ] {
            assert_eq!(best_for(accept, Format::Png, true), expected, "{accept:?}");
            assert_ne!(best_for(accept, Format::Png, false), VariantFormat::Avif, "{accept:?}");
        }
    }
}

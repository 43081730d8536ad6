//! The query of an image: which variant, whether to download, and the signature.

use std::{borrow::Cow, fmt};

use http::HeaderMap;
use url::form_urlencoded;

use super::{
    negotiate,
    query::{FieldError, InvalidQuery, cut},
};
use crate::image::{Fit, Format, Signature, VariantFormat, VariantSpec};

/// The widths and heights that variants may have, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<u32>);

/// What a request for an image asks for besides the image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The variant; `None`: the image as it is stored.
    pub variant: Option<Wanted>,
    /// To be kept as a file rather than shown.
    pub download: bool,
    expires: Option<String>,
    key: Option<String>,
    signature: Option<String>,
}

/// A variant, as far as the request names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    width: Option<u32>,
    height: Option<u32>,
    fit: Option<Fit>,
    format: Option<WantedFormat>,
    quality: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WantedFormat {
    /// The best that the client accepts.
    Auto,
    This(VariantFormat),
}

impl Sizes {
    /// These sizes.
    #[must_use]
    pub fn new(mut sizes: Vec<u32>) -> Self {
        sizes.sort_unstable();
        sizes.dedup();
        Self(sizes)
    }

    /// The sizes, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// The least size that is at least `wanted`, or the largest there is.
    #[must_use]
    pub fn at_least(&self, wanted: u32) -> Option<u32> {
        self.0.iter().find(|size| **size >= wanted).or(self.0.last()).copied()
    }

    /// What a side is at most that is not named.
    fn largest(&self, format: VariantFormat) -> u32 {
        let largest = self.0.last().copied().unwrap_or(u32::MAX);
        format.max_side().map_or(largest, |max| largest.min(max))
    }

    /// The sizes that a variant in this format may have.
    fn of(&self, format: VariantFormat) -> impl Iterator<Item = u32> {
        let max = format.max_side().unwrap_or(u32::MAX);
        self.0.iter().copied().filter(move |size| *size <= max)
    }
}

impl Asked {
    /// Reads the query of an image. Names that are not ours are left aside, since trackers and
    /// cache-busters add them to any URL; but not names that others have for what is ours: whoever
    /// writes `width=512` must not be sent all the image.
    ///
    /// # Errors
    /// The parameters that are meant for us and are misspelt, given twice or hold what is not allowed.
    pub fn parse(query: Option<&str>, sizes: &Sizes) -> Result<Self, InvalidQuery> {
        let mut asked = Self::default();
        let Some(query) = query else { return Ok(asked) };
        let mut wanted = Wanted::default();
        let mut seen = [false; PARAMETERS.len()];
        let mut errors = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let outcome = match PARAMETERS.iter().position(|known| *known == name) {
                Some(index) if std::mem::replace(&mut seen[index], true) => Err("each parameter once".into()),
                Some(_) => asked.set(&mut wanted, &name, &value, sizes),
                None => meant(&name),
            };
            if let Err(allowed) = outcome {
                errors.push(FieldError { field: cut(&name), value: cut(&value), allowed });
                if errors.len() == PARAMETERS.len() {
                    break;
                }
            }
        }
        errors.extend(wanted.too_large(sizes));
        errors.truncate(PARAMETERS.len());
        asked.variant = Some(wanted).filter(|wanted| *wanted != Wanted::default());
        if errors.is_empty() { Ok(asked) } else { Err(InvalidQuery(errors)) }
    }

    /// The signature, if all of it is there.
    pub(super) fn signature(&self) -> Option<Signature<'_>> {
        let (expires, key) = (self.expires.as_deref()?, self.key.as_deref()?);
        Some(Signature { expires, key, signature: self.signature.as_deref()? })
    }

    fn set(
        &mut self,
        wanted: &mut Wanted,
        name: &str,
        value: &str,
        sizes: &Sizes,
    ) -> Result<(), Cow<'static, str>> {
        match name {
            "w" => wanted.width = Some(size(value, sizes)?),
            "h" => wanted.height = Some(size(value, sizes)?),
            "fit" => {
                let fit = Fit::ALL.into_iter().find(|fit| fit.as_str() == value);
                wanted.fit = Some(fit.ok_or("contain, cover or fill")?);
            }
            "format" => {
                wanted.format = Some(wanted_format(value)?);
            }
            "q" => {
                let quality = digits(value).and_then(|number| u8::try_from(number).ok());
                let quality = quality.filter(|quality| (1..=100).contains(quality));
                wanted.quality = Some(quality.ok_or("a whole number from 1 to 100")?);
            }
            "download" => {
                self.download = match value {
                    "" | "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err("nothing, 1 or 0".into()),
                };
            }
            "exp" => self.expires = Some(value.to_owned()),
            "key" => self.key = Some(value.to_owned()),
            _ => self.signature = Some(value.to_owned()),
        }
        Ok(())
    }
}

const PARAMETERS: [&str; 9] = ["w", "h", "fit", "format", "q", "download", "exp", "key", "sig"];

/// What other servers call what is ours.
const ELSEWHERE: [(&str, &str); 8] = [
    ("width", "w"),
    ("height", "h"),
    ("size", "w` and `h"),
    ("resize", "w` and `h"),
    ("mode", "fit"),
    ("fm", "format"),
    ("quality", "q"),
    ("dl", "download"),
];

/// An error for a name that is not ours but is meant for us.
fn meant(name: &str) -> Result<(), Cow<'static, str>> {
    let elsewhere = ELSEWHERE.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name));
    let ours = PARAMETERS.iter().find(|known| known.eq_ignore_ascii_case(name));
    match elsewhere.map(|(_, ours)| ours).or(ours) {
        Some(ours) => Err(format!("no such parameter; it is called `{ours}` here").into()),
        None => Ok(()),
    }
}

fn wanted_format(name: &str) -> Result<WantedFormat, &'static str> {
    if name == "auto" {
        return Ok(WantedFormat::Auto);
    }
    let named = VariantFormat::MADE.iter().find(|format| format.name() == name);
    named.map(|format| WantedFormat::This(*format)).ok_or(match VariantFormat::Avif.is_made() {
        true => "png, jpeg, webp, avif or auto",
        false if name == "avif" => "png, jpeg, webp or auto; this build makes no AVIF",
        false => "png, jpeg, webp or auto",
    })
}

fn size(text: &str, sizes: &Sizes) -> Result<u32, Cow<'static, str>> {
    let size = digits(text).filter(|size| sizes.0.contains(size));
    size.ok_or_else(|| format!("one of {}", list(sizes.0.iter().copied())).into())
}

fn list(sizes: impl Iterator<Item = u32>) -> String {
    sizes.map(|size| size.to_string()).collect::<Vec<_>>().join(", ")
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Wanted {
    /// A preview that is this wide at most, in the best format for who asks.
    #[must_use]
    pub fn preview(width: u32) -> Self {
        Self { width: Some(width), format: Some(WantedFormat::Auto), ..Self::default() }
    }

    /// The one variant that is meant, for an image stored as `source` and a client with these
    /// headers. Sides that are not named are at most the largest size.
    pub(super) fn resolve(self, source: Format, headers: &HeaderMap, sizes: &Sizes) -> VariantSpec {
        let format = match self.format {
            Some(WantedFormat::This(format)) => format,
            Some(WantedFormat::Auto) => negotiate::best(headers, source, self.may_be_avif()),
            None => source.into(),
        };
        let both = self.width.is_some() && self.height.is_some();
        VariantSpec {
            width: self.width.unwrap_or(sizes.largest(format)),
            height: self.height.unwrap_or(sizes.largest(format)),
            // With one side there is no box to fill.
            fit: self.fit.filter(|_| both).unwrap_or_default(),
            format,
            quality: format.quality(self.quality),
        }
    }

    /// The sides that are too large for the format that is named.
    fn too_large(self, sizes: &Sizes) -> Vec<FieldError> {
        let Some(WantedFormat::This(format)) = self.format else { return Vec::new() };
        let Some(max) = format.max_side() else { return Vec::new() };
        let sides = [("w", self.width), ("h", self.height)];
        let too_large =
            sides.into_iter().filter_map(|(name, side)| Some((name, side.filter(|side| *side > max)?)));
        too_large
            .map(|(name, side)| FieldError {
                field: name.to_owned(),
                value: side.to_string(),
                allowed: format!("one of {} with format={}", list(sizes.of(format)), format.name()).into(),
            })
            .collect()
    }

    /// Whether it is of a size that is asked for and that AVIF may have: an image in its own size is not made smaller
    /// for a format that nobody named.
    fn may_be_avif(self) -> bool {
        let max = VariantFormat::Avif.max_side().unwrap_or(u32::MAX);
        let mut sides = self.width.iter().chain(&self.height).peekable();
        VariantFormat::Avif.is_made() && sides.peek().is_some() && sides.all(|side| *side <= max)
    }

    /// Whether the answer depends on `Accept`.
    pub(super) fn is_negotiated(self) -> bool {
        self.format == Some(WantedFormat::Auto)
    }
}

impl fmt::Display for Wanted {
    /// The query that asks for it, in the one spelling that is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = self.format.map(|format| match format {
            WantedFormat::Auto => "auto",
            WantedFormat::This(format) => format.name(),
        });
        let parts: [(&str, Option<String>); 5] = [
            ("w", self.width.map(|width| width.to_string())),
            ("h", self.height.map(|height| height.to_string())),
            ("fit", self.fit.map(|fit| fit.as_str().to_owned())),
            ("format", format.map(str::to_owned)),
            ("q", self.quality.map(|quality| quality.to_string())),
        ];
        let mut separator = "";
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = "&";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: &str =
        if cfg!(feature = "avif") { "png, jpeg, webp, avif or auto" } else { "png, jpeg, webp or auto" };

    fn sizes() -> Sizes {
        Sizes::new(vec![512, 64, 128, 64])
    }

    fn parsed(query: &str) -> Result<Asked, InvalidQuery> {
        Asked::parse(Some(query), &sizes())
    }

    fn resolved(query: &str, source: Format) -> VariantSpec {
        parsed(query).expect("valid").variant.expect("a variant").resolve(source, &HeaderMap::new(), &sizes())
    }

    #[test]
    fn query_without_our_names_asks_for_the_original() {
        for query in [None, Some(""), Some("utm_source=x&fbclid=y&v=2&_=17&t&x-w=64")] {
            assert_eq!(Asked::parse(query, &sizes()), Ok(Asked::default()), "{query:?}");
        }
        assert!(parsed("download").expect("valid").download);
        assert!(!parsed("download=0").expect("valid").download);
    }

    #[test]
    fn query_names_one_variant() {
        let spec = |width, height, fit, format: Format, quality| VariantSpec {
            width,
            height,
            fit,
            format: format.into(),
            quality,
        };
        for (query, source, expected) in [
            ("w=64", Format::Png, spec(64, 512, Fit::Contain, Format::Png, 0)),
            ("h=128&q=50", Format::Jpeg, spec(512, 128, Fit::Contain, Format::Jpeg, 50)),
            ("h=64&w=128&fit=cover", Format::WebP, spec(128, 64, Fit::Cover, Format::WebP, 80)),
            ("w=128&fit=fill", Format::WebP, spec(128, 512, Fit::Contain, Format::WebP, 80)),
            ("format=webp&q=100", Format::Png, spec(512, 512, Fit::Contain, Format::WebP, 100)),
            ("q=7&format=png", Format::Jpeg, spec(512, 512, Fit::Contain, Format::Png, 0)),
            ("format=auto", Format::Jpeg, spec(512, 512, Fit::Contain, Format::Jpeg, 80)),
            ("%77=64", Format::Png, spec(64, 512, Fit::Contain, Format::Png, 0)),
        ] {
            assert_eq!(resolved(query, source), expected, "{query}");
        }
    }

    #[test]
    fn query_with_bad_values_names_field_value_and_what_is_allowed() {
        for (query, field, value, allowed) in [
            ("w=100", "w", "100", "one of 64, 128, 512"),
            ("w=", "w", "", "one of 64, 128, 512"),
            ("h=%2B64", "h", "+64", "one of 64, 128, 512"),
            ("h=99999999999999", "h", "99999999999999", "one of 64, 128, 512"),
            ("fit=stretch", "fit", "stretch", "contain, cover or fill"),
            ("format=gif", "format", "gif", FORMATS),
            ("format=WebP", "format", "WebP", FORMATS),
            ("q=0", "q", "0", "a whole number from 1 to 100"),
            ("q=101", "q", "101", "a whole number from 1 to 100"),
            ("q=8.5", "q", "8.5", "a whole number from 1 to 100"),
            ("download=please", "download", "please", "nothing, 1 or 0"),
            ("w=64&w=64", "w", "64", "each parameter once"),
            ("W=64", "W", "64", "no such parameter; it is called `w` here"),
            ("Width=64", "Width", "64", "no such parameter; it is called `w` here"),
            ("size=64x64", "size", "64x64", "no such parameter; it is called `w` and `h` here"),
            ("w=64&quality=9", "quality", "9", "no such parameter; it is called `q` here"),
        ] {
            let InvalidQuery(errors) = parsed(query).expect_err(query);
            assert_eq!(errors.len(), 1, "{query}");
            let error = &errors[0];
            assert_eq!((&*error.field, &*error.value, &*error.allowed), (field, value, allowed));
        }
        assert_eq!(parsed("w=1&h=2&fit=x&q=0").expect_err("refused").0.len(), 4);
        assert!(parsed(&"w=1&".repeat(1000)).expect_err("refused").0.len() <= PARAMETERS.len());
    }

    #[cfg(feature = "avif")]
    #[test]
    fn avif_has_sizes_up_to_its_bound() {
        let sizes = Sizes::new(vec![64, 1024, 1536, 2048]);
        let headers = HeaderMap::new();
        for (query, expected) in [
            ("format=avif", (1024, 1024, 75)),
            ("format=avif&w=64&q=30", (64, 1024, 30)),
            ("h=1024&format=avif", (1024, 1024, 75)),
            ("w=64&format=avif&q=100", (64, 1024, 90)),
        ] {
            let asked = Asked::parse(Some(query), &sizes).expect(query);
            let spec = asked.variant.expect("a variant").resolve(Format::Png, &headers, &sizes);
            assert_eq!((spec.width, spec.height, spec.quality), expected, "{query}");
            assert_eq!(spec.format, VariantFormat::Avif);
        }
        for (query, fields) in [
            ("w=1536&format=avif", &["w"][..]),
            ("format=avif&h=2048&w=2048", &["w", "h"]),
            ("format=avif&h=2048&w=64", &["h"]),
        ] {
            let InvalidQuery(errors) = Asked::parse(Some(query), &sizes).expect_err(query);
            assert_eq!(errors.iter().map(|error| &*error.field).collect::<Vec<_>>(), fields, "{query}");
            assert!(
                errors.iter().all(|error| error.allowed == "one of 64, 1024 with format=avif"),
                "{errors:?}"
            );
        }
        assert!(Asked::parse(Some("w=2048&format=webp"), &sizes).is_ok());
    }

    #[cfg(feature = "avif")]
    #[test]
    fn avif_is_negotiated_where_the_size_allows_it() {
        let sizes = Sizes::new(vec![64, 1024, 1536]);
        let mut headers = HeaderMap::new();
        headers.insert("accept", http::HeaderValue::from_static("image/avif, */*;q=0.1"));
        for (query, avif) in [
            ("format=auto&w=64", true),
            ("format=auto&w=1024&h=64", true),
            ("format=auto&w=1536", false),
            ("format=auto&w=64&h=1536", false),
            ("format=auto", false),
        ] {
            let wanted = Asked::parse(Some(query), &sizes).expect(query).variant.expect("a variant");
            let format = wanted.resolve(Format::Jpeg, &headers, &sizes).format;
            assert_eq!(format == VariantFormat::Avif, avif, "{query}: {format}");
        }
    }

    #[cfg(not(feature = "avif"))]
    #[test]
    fn avif_is_refused_by_a_build_without_it() {
        let InvalidQuery(errors) = parsed("w=64&format=avif").expect_err("refused");
        assert_eq!(errors[0].allowed, "png, jpeg, webp or auto; this build makes no AVIF");
    }

    #[test]
    fn spelling_does_not_depend_on_the_order() {
        for query in ["q=70&format=auto&fit=cover&h=64&w=128", "w=128&h=64&fit=cover&format=auto&q=70"] {
            let wanted = parsed(query).expect("valid").variant.expect("a variant");
            assert_eq!(wanted.to_string(), "w=128&h=64&fit=cover&format=auto&q=70");
            assert_eq!(parsed(&wanted.to_string()).expect("valid").variant, Some(wanted));
        }
        assert_eq!(Wanted::preview(64).to_string(), "w=64&format=auto");
    }

    #[test]
    fn signature_is_there_whole_or_not_at_all() {
        let asked = parsed("exp=1&key=k&sig=s").expect("valid");
        assert_eq!(asked.signature(), Some(Signature { expires: "1", key: "k", signature: "s" }));
        assert_eq!(asked.variant, None);
        assert_eq!(parsed("exp=1&key=k").expect("valid").signature(), None);
    }
}

use crate::image::{Format, ImageId};

/// What an object of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole image.
    Image(Format),
    /// The metadata beside it.
    Sidecar,
}

/// The keys below a prefix: `<prefix><first 7 hex digits of the id>/<id>.<extension>`. They sort as
/// the ids do, by age.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys below `prefix`, which is empty or ends with a slash.
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What all keys start with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of an image.
    pub(super) fn image(&self, id: ImageId, format: Format) -> String {
        format!("{}{}/{id}.{}", self.prefix, id.bucket(), format.extension())
    }

    /// The key of an image's metadata.
    pub(super) fn sidecar(&self, id: ImageId) -> String {
        format!("{}{}/{id}.json", self.prefix, id.bucket())
    }

    /// A key for a probe, which no image has. It sorts before all images.
    pub(super) fn probe(&self) -> String {
        format!("{}.probe-{}", self.prefix, uuid::Uuid::now_v7().simple())
    }

    /// Whether this is the key of a probe.
    pub(super) fn is_probe(&self, key: &str) -> bool {
        let id = key.strip_prefix(&*self.prefix).and_then(|name| name.strip_prefix(".probe-"));
        id.is_some_and(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    }

    /// Recognises exactly the keys that are ours.
    pub(super) fn parse(&self, key: &str) -> Option<(ImageId, Kind)> {
        let (bucket, name) = key.strip_prefix(&*self.prefix)?.split_once('/')?;
        let (id, extension) = name.split_once('.')?;
        let kind = match extension {
            "json" => Kind::Sidecar,
            _ => Kind::Image(Format::ALL.into_iter().find(|format| format.extension() == extension)?),
        };
        let id: ImageId = id.parse().ok()?;
        (id.bucket() == bucket).then_some((id, kind))
    }

    /// Sorts before every key of an id that was made at `millis` or later, and after all others.
    pub(super) fn at(&self, millis: u64) -> String {
        let digits = format!("{millis:012x}");
        format!("{}{}/{}-{}", self.prefix, &digits[..7], &digits[..8], &digits[8..])
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn key_round_trips() {
        for prefix in ["", "mcp-images/", "a/b c/ü/"] {
            let (keys, id) = (Keys::new(prefix), ImageId::now());
            assert_eq!(keys.parse(&keys.sidecar(id)), Some((id, Kind::Sidecar)));
            for format in Format::ALL {
                assert_eq!(keys.parse(&keys.image(id, format)), Some((id, Kind::Image(format))));
            }
            let probe = keys.probe();
            assert!(keys.is_probe(&probe) && keys.parse(&probe).is_none() && probe < keys.sidecar(id));
        }
    }

    #[test]
    fn key_of_another_is_not_ours() {
        let (keys, id) = (Keys::new("p/"), ImageId::now());
        let bucket = id.bucket();
        for key in [
            format!("{bucket}/{id}.png"),
            format!("p/{id}.png"),
            format!("p/0000000/{id}.png"),
            format!("p/{bucket}/{id}.PNG"),
            format!("p/{bucket}/{id}.png.bak"),
            format!("p/{bucket}/x/{id}.png"),
            format!("p/{bucket}/{id}"),
            "p/".to_owned(),
            "p/.probe-".to_owned(),
        ] {
            assert!(keys.parse(&key).is_none() && !keys.is_probe(&key), "{key}");
        }
    }

    #[test]
    fn key_of_a_moment_lies_between_the_ids_around_it() {
        let keys = Keys::new("p/");
        for millis in [0x0192_abcd_ef01, 0x0192_abc0_0000, 0x0192_abcd_0000, 1] {
            let id = |millis| ImageId::at(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            let at = keys.at(millis);
            assert!(
                keys.image(id(millis - 1), Format::WebP) < at && at < keys.image(id(millis), Format::Jpeg)
            );
        }
    }
}

use crate::{
    image::{Format, ImageId},
    storage::{RecordKey, RecordKind},
};

/// What an object of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole image.
    Image(Format),
    /// The metadata beside it.
    Sidecar,
}

/// The keys below a prefix: `<prefix><first 6 hex digits of the id>/<next 2>/<id>.<extension>`. They
/// sort as the ids do, by age.
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

    /// What the keys of all records of a kind start with. They sort after all images.
    pub(super) fn records(&self, kind: RecordKind) -> String {
        format!("{}records/{}/", self.prefix, kind.name())
    }

    /// The key of a record. It has no extension, so that keys sort as what they are the keys of.
    pub(super) fn record(&self, kind: RecordKind, key: &RecordKey) -> String {
        format!("{}{key}", self.records(kind))
    }

    /// Recognises exactly the records of a kind.
    pub(super) fn parse_record(&self, kind: RecordKind, key: &str) -> Option<RecordKey> {
        key.strip_prefix(&*self.records(kind))?.parse().ok()
    }

    /// Whether all images sort before this key.
    pub(super) fn is_behind_images(&self, key: &str) -> bool {
        key.strip_prefix(&*self.prefix).is_some_and(|name| name >= "g")
    }

    /// Recognises exactly the images that are ours, and their metadata.
    pub(super) fn parse(&self, key: &str) -> Option<(ImageId, Kind)> {
        let (bucket, name) = key.strip_prefix(&*self.prefix)?.rsplit_once('/')?;
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
        format!("{}{}/{}/{}-{}", self.prefix, &digits[..6], &digits[6..8], &digits[..8], &digits[8..])
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
    fn key_of_a_record_round_trips_and_sorts_after_all_images() {
        for prefix in ["", "p/"] {
            let keys = Keys::new(prefix);
            let texts = ["a", "a-b", "a0", "a_", "ab"];
            let records = texts.map(|text| text.parse::<RecordKey>().expect("a key"));
            for (at, record) in records.iter().enumerate() {
                let key = keys.record(RecordKind::Jobs, record);
                assert_eq!(keys.parse_record(RecordKind::Jobs, &key).as_ref(), Some(record));
                assert_eq!(keys.parse_record(RecordKind::IdempotencyKeys, &key), None);
                assert!(keys.parse(&key).is_none() && keys.is_behind_images(&key));
                assert!(records[..at].iter().all(|before| keys.record(RecordKind::Jobs, before) < key));
            }
            let latest = ImageId::at(SystemTime::UNIX_EPOCH + Duration::from_millis((1 << 48) - 1));
            assert!(!keys.is_behind_images(&keys.image(latest, Format::Png)));
            assert!(!keys.is_behind_images(&keys.probe()));
        }
    }

    #[test]
    fn key_of_another_is_not_ours() {
        let (keys, id) = (Keys::new("p/"), ImageId::now());
        let bucket = id.bucket();
        for key in [
            format!("{bucket}/{id}.png"),
            format!("p/{id}.png"),
            format!("p/000000/00/{id}.png"),
            format!("p/{}/{id}.png", bucket.replace('/', "")),
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

use std::fmt;

use crate::image::{Format, ImageId};

/// A bucket holds the ids of 2^20 milliseconds.
const BUCKET_BITS: u32 = 20;

/// Digits of a bucket's name.
const BUCKET_DIGITS: usize = 7;

/// The folder of one stretch of time: the leading 28 bits of its ids, seven hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(pub(super) u32);

impl Bucket {
    /// The bucket of an id.
    pub(super) fn of(id: ImageId) -> Self {
        // 48 - 20 bits are left.
        Self(u32::try_from(id.created_millis() >> BUCKET_BITS).unwrap_or(u32::MAX))
    }

    /// The bucket with exactly this name.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let canonical =
            name.len() == BUCKET_DIGITS && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let name = std::str::from_utf8(name).ok().filter(|_| canonical)?;
        u32::from_str_radix(name, 16).ok().map(Self)
    }

    /// The first moment, in milliseconds since the Unix epoch, whose ids fall into a later bucket.
    pub(super) fn end_millis(self) -> u64 {
        (u64::from(self.0) + 1) << BUCKET_BITS
    }

    /// Whether it can hold ids whose text starts with `prefix`.
    pub(super) fn may_hold(self, prefix: &str) -> bool {
        let name = self.to_string();
        name.starts_with(prefix) || prefix.starts_with(&name)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:07x}", self.0)
    }
}

/// What a file of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole image.
    Image(Format),
    /// The metadata beside it.
    Sidecar,
    /// An image that is being written.
    Temporary,
}

/// The name of a file of ours: `<id>.<extension>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// The image.
    pub(super) id: ImageId,
    /// What of it.
    pub(super) kind: Kind,
}

impl Name {
    /// The name of an image's file.
    pub(super) fn image(id: ImageId, format: Format) -> Self {
        Self { id, kind: Kind::Image(format) }
    }

    /// The name of an image's metadata.
    pub(super) fn sidecar(id: ImageId) -> Self {
        Self { id, kind: Kind::Sidecar }
    }

    /// The name of an image that is being written.
    pub(super) fn temporary(id: ImageId) -> Self {
        Self { id, kind: Kind::Temporary }
    }

    /// Recognises exactly the names that are ours.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let (id, extension) = std::str::from_utf8(name).ok()?.split_once('.')?;
        let kind = match extension {
            "json" => Kind::Sidecar,
            "tmp" => Kind::Temporary,
            _ => Kind::Image(Format::ALL.into_iter().find(|format| format.extension() == extension)?),
        };
        Some(Self { id: id.parse().ok()?, kind })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = match self.kind {
            Kind::Image(format) => format.extension(),
            Kind::Sidecar => "json",
            Kind::Temporary => "tmp",
        };
        write!(f, "{}.{extension}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_of_id_is_its_first_seven_digits() {
        let id = ImageId::now();
        let bucket = Bucket::of(id);
        assert_eq!(bucket.to_string(), id.bucket());
        assert_eq!(Bucket::parse(id.bucket().as_bytes()), Some(bucket));
        assert!(bucket.end_millis() > id.created_millis());
        assert!(bucket.end_millis() - id.created_millis() <= 1 << 20);
    }

    #[test]
    fn bucket_in_another_spelling_is_not_ours() {
        for name in ["", "019aBcd", "019abc", "019abcde", "+19abcd", "../../x", "019abc.", "0x19abc"] {
            assert_eq!(Bucket::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn bucket_may_hold_ids_of_shorter_and_longer_prefixes() {
        let bucket = Bucket(0x019_abcd);
        for prefix in ["", "0", "019abcd", "019abcd1", "019abcd1-2345"] {
            assert!(bucket.may_hold(prefix), "{prefix}");
        }
        for prefix in ["1", "019abce", "019abce1-2345", "019ABCD", "x"] {
            assert!(!bucket.may_hold(prefix), "{prefix}");
        }
    }

    #[test]
    fn name_round_trips() {
        let id = ImageId::now();
        let images = Format::ALL.map(|format| Name::image(id, format));
        for name in [Name::sidecar(id), Name::temporary(id)].into_iter().chain(images) {
            assert_eq!(Name::parse(name.to_string().as_bytes()), Some(name));
        }
    }

    #[test]
    fn name_of_another_is_not_ours() {
        let id = ImageId::now().to_string();
        for name in [
            id.clone(),
            format!("{id}."),
            format!("{id}.jpeg"),
            format!("{id}.PNG"),
            format!("{id}.png.bak"),
            format!(".{id}.png"),
            format!("{}.png", id.to_uppercase()),
            "notes.json".to_owned(),
            "lost+found".to_owned(),
        ] {
            assert_eq!(Name::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Name::parse(b"\xff\xfe.png"), None);
    }
}

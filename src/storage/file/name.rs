use std::fmt;

use crate::image::{Format, ImageId};

/// A bucket holds the ids of 2^16 milliseconds: eight of twelve hex digits are left.
const BUCKET_BITS: u32 = 16;

/// Buckets that are side by side in the folder of a group: two digits of the eight.
const GROUP_BITS: u32 = 8;

/// Digits of a group's name.
const GROUP_DIGITS: usize = 6;

/// Digits of a bucket's name in its group.
const BUCKET_DIGITS: usize = 2;

/// The folder of one stretch of time: the leading 32 bits of its ids, 65.5 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(pub(super) u32);

impl Bucket {
    /// The bucket of an id.
    pub(super) fn of(id: ImageId) -> Self {
        // 48 - 16 bits are left.
        Self(u32::try_from(id.created_millis() >> BUCKET_BITS).unwrap_or(u32::MAX))
    }

    /// The group that it lies in.
    pub(super) fn group(self) -> Group {
        Group(self.0 >> GROUP_BITS)
    }

    /// The name of its folder in that of its group.
    pub(super) fn name(self) -> String {
        format!("{:02x}", self.0 & ((1 << GROUP_BITS) - 1))
    }

    /// The first moment, in milliseconds since the Unix epoch, whose ids fall into a later bucket.
    pub(super) fn end_millis(self) -> u64 {
        (u64::from(self.0) + 1) << BUCKET_BITS
    }

    /// Whether it can hold ids whose text starts with `prefix`.
    pub(super) fn may_hold(self, prefix: &str) -> bool {
        overlap(&format!("{:08x}", self.0), prefix)
    }
}

impl fmt::Display for Bucket {
    /// The path of its folder, below the base.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group(), self.name())
    }
}

/// The folder of the buckets of a longer stretch of time: the leading 24 bits of its ids, 4.7 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group(u32);

impl Group {
    /// The group with exactly this name.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        hex::<GROUP_DIGITS>(name).map(Self)
    }

    /// The bucket that has exactly this name here.
    pub(super) fn bucket(self, name: &[u8]) -> Option<Bucket> {
        hex::<BUCKET_DIGITS>(name).map(|low| Bucket(self.0 << GROUP_BITS | low))
    }

    /// The last bucket that may be in it.
    pub(super) fn last(self) -> Bucket {
        Bucket(self.0 << GROUP_BITS | ((1 << GROUP_BITS) - 1))
    }

    /// Whether it can hold ids whose text starts with `prefix`.
    pub(super) fn may_hold(self, prefix: &str) -> bool {
        overlap(&self.to_string(), prefix)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// What exactly so many lower-case digits mean.
fn hex<const DIGITS: usize>(name: &[u8]) -> Option<u32> {
    let canonical = name.len() == DIGITS && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let name = std::str::from_utf8(name).ok().filter(|_| canonical)?;
    u32::from_str_radix(name, 16).ok()
}

/// Whether texts that start with `digits` may start with `prefix`.
fn overlap(digits: &str, prefix: &str) -> bool {
    digits.starts_with(prefix) || prefix.starts_with(digits)
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
    fn bucket_of_id_is_its_first_eight_digits() {
        let id = ImageId::now();
        let bucket = Bucket::of(id);
        assert_eq!(bucket.to_string(), id.bucket());
        let (group, name) = (Group::parse(&id.to_string().as_bytes()[..6]), &id.to_string()[6..8]);
        assert_eq!(group, Some(bucket.group()));
        assert_eq!(bucket.group().bucket(name.as_bytes()), Some(bucket));
        assert!(bucket.end_millis() > id.created_millis());
        assert!(bucket.end_millis() - id.created_millis() <= 1 << 16);
        let last = bucket.group().last();
        assert!(last >= bucket && last.group() == bucket.group() && last.name() == "ff");
    }

    #[test]
    fn folder_in_another_spelling_is_not_ours() {
        for name in ["", "019aBc", "019ab", "019abcd", "+19abc", "../../", "019ab.", "0x19ab"] {
            assert_eq!(Group::parse(name.as_bytes()), None, "{name}");
        }
        for name in ["", "0", "0A", "000", "+1", "..", "0."] {
            assert_eq!(Group(0x01_9abc).bucket(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn folder_may_hold_ids_of_shorter_and_longer_prefixes() {
        let bucket = Bucket(0x019a_bcde);
        for prefix in ["", "0", "019abc", "019abcde", "019abcde-", "019abcde-2345"] {
            assert!(bucket.may_hold(prefix) && bucket.group().may_hold(prefix), "{prefix}");
        }
        for prefix in ["019abcd", "019abcdf", "019abcdf-2345"] {
            assert_eq!(bucket.may_hold(prefix), prefix == "019abcd", "{prefix}");
            assert!(bucket.group().may_hold(prefix), "{prefix}");
        }
        for prefix in ["1", "019abd", "019abd1-2345", "019ABC", "x"] {
            assert!(!bucket.may_hold(prefix) && !bucket.group().may_hold(prefix), "{prefix}");
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

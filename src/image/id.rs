use std::{fmt, str::FromStr, time::SystemTime};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An image's name: a UUIDv7 (RFC 9562, section 5.7).
///
/// The 48 bits in front are the creation time in milliseconds, so ids sort by age; the 74 random
/// bits behind make the id a capability. Its only spelling is the lower-case hyphenated one, so an
/// image has one URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(Uuid);

/// The text is not an image id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an image id: expected a lower-case hyphenated UUIDv7")]
pub struct InvalidImageId;

impl ImageId {
    /// A new id, created now.
    #[must_use]
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }

    /// A new id with the given creation time (before 1970: 1970).
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::NoContext,
            since_epoch.as_secs(),
            since_epoch.subsec_nanos(),
        )))
    }

    /// The least id with the given creation time (before 1970: 1970): older ids are less, ids of
    /// that millisecond and later ones are not.
    #[must_use]
    pub fn least_at(time: DateTime<Utc>) -> Self {
        let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }

    /// Milliseconds since the Unix epoch at which the id was created.
    #[must_use]
    pub fn created_millis(self) -> u64 {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0.as_bytes()[..6]);
        u64::from_be_bytes(millis)
    }

    /// When the id was created, to the millisecond.
    #[must_use]
    pub fn created_at(self) -> DateTime<Utc> {
        i64::try_from(self.created_millis())
            .ok()
            .and_then(DateTime::from_timestamp_millis)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The time bucket, `019abc/de`: six and two of the first eight hex digits, which are a minute of
    /// ids (65.5 seconds) in one of 256 below a stretch of 4.7 hours.
    #[must_use]
    pub fn bucket(self) -> String {
        let digits = self.created_millis() >> 16;
        format!("{:06x}/{:02x}", digits >> 8, digits & 0xff)
    }
}

impl FromStr for ImageId {
    type Err = InvalidImageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = parse(text.as_bytes()).ok_or(InvalidImageId)?;
        let is_ours = id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
        if is_ours { Ok(Self(id)) } else { Err(InvalidImageId) }
    }
}

/// Reads the one spelling alone: uuid's parser takes four, and what it takes would have to be looked at once more. Each
/// request for an image comes through here.
fn parse(text: &[u8]) -> Option<Uuid> {
    let text: &[u8; uuid::fmt::Hyphenated::LENGTH] = text.try_into().ok()?;
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let mut bits = 0_u128;
    // A digit that is none sets a bit that no digit has.
    let mut seen = 0;
    for group in [&text[..8], &text[9..13], &text[14..18], &text[19..23], &text[24..]] {
        for &byte in group {
            let digit = DIGITS[usize::from(byte)];
            seen |= digit;
            bits = bits << 4 | u128::from(digit);
        }
    }
    (seen & NO_DIGIT == 0).then(|| Uuid::from_u128(bits))
}

const NO_DIGIT: u8 = 0x80;

/// The value of each lower-case hexadecimal digit.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn id_round_trips_and_keeps_its_time() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_123_456);
        let id = ImageId::at(time);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.created_millis(), 1_764_000_123_456);
        let text = id.to_string();
        assert_eq!(id.bucket(), format!("{}/{}", &text[..6], &text[6..8]));
    }

    #[test]
    fn ids_sort_by_age() {
        let older = ImageId::at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_000));
        let newer = ImageId::at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_001));
        assert!(older < newer);
        assert!(older.to_string() < newer.to_string());
    }

    #[test]
    fn least_id_of_a_time_bounds_its_ids() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_123_456);
        let least = ImageId::least_at(time.into());
        assert_eq!(least.created_millis(), 1_764_000_123_456);
        assert_eq!(least.to_string().parse(), Ok(least));
        assert!(ImageId::at(time) > least);
        assert!(ImageId::at(time - Duration::from_millis(1)) < least);
        assert_eq!(ImageId::least_at(DateTime::<Utc>::MIN_UTC).created_millis(), 0);
    }

    #[test]
    fn id_in_another_spelling_is_refused() {
        let id = ImageId::now().to_string();
        for text in [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            format!("{id} "),
            "0b0e8400-e29b-41d4-a716-446655440000".to_owned(), // version 4
            "..".to_owned(),
            String::new(),
        ] {
            assert_eq!(text.parse::<ImageId>(), Err(InvalidImageId), "{text}");
        }
    }
}

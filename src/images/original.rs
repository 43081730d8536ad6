use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};
use layers::request_id::X_REQUEST_ID;
use tokio::time::Instant;

use super::{
    conditional::Validators,
    entity_tag::EntityTag,
    fields::{self, CacheControl},
};
use crate::{image::Metadata, storage};

/// What is known about a stored image, with the header fields that follow from it.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) metadata: Metadata,
    pub(super) entity_tag: HeaderValue,
    pub(super) last_modified: SystemTime,
    pub(super) last_modified_field: HeaderValue,
    pub(super) disposition: HeaderValue,
    /// All fields of a 200 with the image as it is stored that are the same each time.
    pub(super) fields: HeaderMap,
    pub(super) cache_control: CacheControl,
    /// The id, by which a CDN purges it.
    pub(super) tag: HeaderValue,
    known: Instant,
    /// Milliseconds from `known` to when the store was last asked.
    asked: AtomicU64,
}

impl Original {
    pub(super) fn new(metadata: Metadata) -> Result<Self, storage::Error> {
        let damaged = || storage::Error::Corrupt {
            id: metadata.image_id,
            reason: "its metadata has characters that no header field can have".to_owned(),
        };
        let field = |text: String| HeaderValue::try_from(text).map_err(|_| damaged());
        let entity_tag = field(metadata.entity_tag())?;
        EntityTag::parse(entity_tag.as_bytes()).ok_or_else(damaged)?;
        let last_modified = whole_second(metadata.created_at, Utc::now());
        let last_modified_field = field(httpdate::fmt_http_date(last_modified))?;
        let disposition = field(format!("inline; filename=\"{}\"", metadata.file_name()))?;
        let mut fields = fields::common(entity_tag.clone(), last_modified_field.clone());
        let media_type = metadata.format.media_type();
        fields::set_content(&mut fields, media_type, metadata.size_bytes, disposition.clone());
        // What each answer sets for itself has its place: a map that was copied would have to grow for it.
        for name in [header::CACHE_CONTROL, X_REQUEST_ID] {
            fields.insert(name, HeaderValue::from_static(""));
        }
        Ok(Self {
            entity_tag,
            last_modified,
            last_modified_field,
            disposition,
            fields,
            cache_control: CacheControl::default(),
            tag: field(metadata.image_id.to_string())?,
            known: Instant::now(),
            asked: AtomicU64::new(0),
            metadata,
        })
    }

    /// The validators of the representation with this entity tag.
    pub(super) fn validators<'a>(&self, entity_tag: &'a HeaderValue) -> Validators<'a> {
        // It was made by this server, so it is one.
        let entity_tag =
            EntityTag::parse(entity_tag.as_bytes()).unwrap_or(EntityTag { weak: true, opaque: b"" });
        Validators { entity_tag, last_modified: self.last_modified }
    }

    /// Bytes it takes in memory, about.
    pub(super) fn weight(&self) -> u64 {
        let generation = &self.metadata.generation;
        let words = generation.prompt.len() + generation.negative_prompt.as_ref().map_or(0, String::len);
        3072 + words as u64
    }

    /// Whether the store was not asked for longer than `interval`. `true` for one caller alone.
    pub(super) fn is_due(&self, interval: Duration, now: Instant) -> bool {
        let now = u64::try_from(now.duration_since(self.known).as_millis()).unwrap_or(u64::MAX);
        let asked = self.asked.load(Ordering::Relaxed);
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(asked) >= interval
            && self.asked.compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// `created`, to the second and as a date can be written; not in the future (RFC 9110, section
/// 8.8.2.1), where another replica's clock may be.
fn whole_second(created: DateTime<Utc>, now: DateTime<Utc>) -> SystemTime {
    let seconds = u64::try_from(created.min(now).timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

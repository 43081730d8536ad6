//! Variants: made once however many ask, by few at a time, and kept while there is room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderValue;
use metrics::{counter, histogram};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    cache::Key,
    flights::Flights,
    original::Original,
    originals::{Originals, Source},
};
use crate::{
    image::{Format, Limits, VariantError, VariantSpec, variant},
    storage,
};

/// Variants that may wait for each place at work; more are turned away.
const WAITING_PER_PLACE: usize = 64;
/// Digits of an entity tag.
const TAG_DIGITS: usize = 32;

/// Why there is no variant; several may read it.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Storage(#[from] Arc<storage::Error>),
    #[error(transparent)]
    Variant(Arc<VariantError>),
    #[error("too many variants are waiting to be made")]
    Busy,
    #[error("the work on a variant broke off")]
    Lost,
}

/// Makes variants of stored images. Cheap to clone.
#[derive(Clone)]
pub(super) struct Variants(Arc<Inner>);

struct Inner {
    originals: Originals,
    limits: Limits,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    flights: Flights<Key, Result<Bytes, Error>>,
    made: AtomicUsize,
}

impl Variants {
    /// At most `concurrency` are made at a time; originals over `limits` are not decoded.
    pub(super) fn new(originals: Originals, limits: Limits, concurrency: usize) -> Self {
        register_counters();
        Self(Arc::new(Inner {
            originals,
            limits,
            places: Arc::new(Semaphore::new(concurrency)),
            waiting: AtomicUsize::new(0),
            most_waiting: concurrency.saturating_mul(WAITING_PER_PLACE),
            flights: Flights::default(),
            made: AtomicUsize::new(0),
        }))
    }

    /// The variant's bytes.
    pub(super) async fn get(
        &self,
        original: &Original,
        spec: VariantSpec,
        now: DateTime<Utc>,
    ) -> Result<Bytes, Error> {
        let id = original.metadata.image_id;
        let key = Key { id, variant: Some(spec) };
        if let Some(bytes) = self.0.originals.cache().get(&key, now) {
            return Ok(bytes);
        }
        let (this, expires_at) = (self.clone(), original.metadata.expires_at);
        self.0.flights.join(key, || async move { this.make(key, spec, expires_at).await }).await
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }

    async fn make(&self, key: Key, spec: VariantSpec, expires_at: DateTime<Utc>) -> Result<Bytes, Error> {
        let result = self.work(key, spec, expires_at).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Error::Busy) => "busy",
            Err(Error::Variant(_)) => "impossible",
            Err(Error::Storage(_) | Error::Lost) => "error",
        };
        counter!("mcp_image_variants_total", "format" => spec.format.name(), "outcome" => outcome)
            .increment(1);
        result
    }

    async fn work(&self, key: Key, spec: VariantSpec, expires_at: DateTime<Utc>) -> Result<Bytes, Error> {
        let inner = &*self.0;
        let place = self.place().await?;
        let forgotten = inner.originals.forgotten();
        // Bounded with the work: only who has a place holds an original.
        let (original, source) = inner.originals.open(key.id, Utc::now()).await?;
        let bytes = match source {
            Source::Bytes(bytes) => bytes,
            // Variants do not ask for it.
            Source::Redirect(_) => return Err(Error::Lost),
            Source::Content(content) => {
                content.read(0..original.metadata.size_bytes).await.map_err(Arc::new)?
            }
        };
        let limits = inner.limits;
        let span = tracing::Span::current();
        let made = tokio::task::spawn_blocking(move || {
            // Held here: the work goes on when nobody waits for it any more.
            let _place = place;
            let started = Instant::now();
            let made = span.in_scope(|| variant(&bytes, &spec, limits));
            histogram!("mcp_image_variant_duration_seconds").record(started.elapsed());
            made
        });
        inner.made.fetch_add(1, Ordering::Relaxed);
        let made = made.await.map_err(|_| Error::Lost)?.map_err(|error| Error::Variant(Arc::new(error)))?;
        let cache = inner.originals.cache();
        let share = cache.reserve(made.bytes.len() as u64).ok_or(Error::Busy)?;
        let bytes = share.hold(made.bytes.into());
        inner.originals.keep(key, bytes.clone(), expires_at, forgotten);
        Ok(bytes)
    }

    /// A place at work, unless too many wait for one.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let waiting = Waiting::enter(&self.0.waiting);
        if waiting.before >= self.0.most_waiting {
            return Err(Error::Busy);
        }
        Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| Error::Lost)
    }
}

/// Counts from zero.
fn register_counters() {
    for format in [Format::Png, Format::Jpeg, Format::WebP] {
        for outcome in ["ok", "busy", "impossible", "error"] {
            counter!("mcp_image_variants_total", "format" => format.name(), "outcome" => outcome)
                .increment(0);
        }
    }
}

/// One that waits for a place.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The strong entity tag of a variant. The same version of this server makes the same bytes of the
/// same image, so the tag is known before they are made.
pub(super) fn entity_tag(original: &Original, spec: &VariantSpec) -> Option<HeaderValue> {
    let version = env!("CARGO_PKG_VERSION");
    let hash = Sha256::digest(format!("{version}\n{}\n{spec}", original.metadata.sha256));
    let digits = hash.iter().take(TAG_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect::<String>();
    HeaderValue::try_from(format!("\"{digits}\"")).ok()
}

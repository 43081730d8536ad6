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

use super::{
    cache::Key,
    flights::Flights,
    original::Original,
    originals::{Originals, Source},
};
use crate::{
    admission::{Admission, Client},
    image::{Limits, VariantError, VariantFormat, VariantSpec, variant},
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
    #[error("there is no room in memory for a variant")]
    NoRoom,
    #[error("the work on a variant broke off")]
    Lost,
}

/// Makes variants of stored images. Cheap to clone.
#[derive(Clone)]
pub(super) struct Variants(Arc<Inner>);

struct Inner {
    originals: Originals,
    limits: Limits,
    admission: Admission,
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
            admission: Admission::new(concurrency, concurrency.saturating_mul(WAITING_PER_PLACE), |_| {}),
            flights: Flights::default(),
            made: AtomicUsize::new(0),
        }))
    }

    /// The variant's bytes. If they have to be made, that is in `client`'s turn, or in that of who
    /// asked for them before.
    pub(super) async fn get(
        &self,
        original: &Original,
        spec: VariantSpec,
        now: DateTime<Utc>,
        client: Client,
    ) -> Result<Bytes, Error> {
        let id = original.metadata.image_id;
        let key = Key { id, variant: Some(spec) };
        if let Some(bytes) = self.0.originals.cache().get(&key, now) {
            return Ok(bytes);
        }
        let expires_at = original.metadata.expires_at;
        loop {
            let mut is_own = false;
            let work = || {
                is_own = true;
                let this = self.clone();
                async move { this.make(key, spec, expires_at, client).await }
            };
            let result = self.0.flights.join(key, work).await;
            // Another client's turn that was lost is not this one's: it has one by itself.
            if is_own || !matches!(result, Err(Error::Busy)) {
                return result;
            }
        }
    }

    /// How many wait for a place.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.admission.waiting()
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }

    async fn make(
        &self,
        key: Key,
        spec: VariantSpec,
        expires_at: DateTime<Utc>,
        client: Client,
    ) -> Result<Bytes, Error> {
        let result = self.work(key, spec, expires_at, client).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Error::Busy) => "busy",
            Err(Error::NoRoom) => "no_room",
            Err(Error::Variant(_)) => "impossible",
            Err(Error::Storage(_) | Error::Lost) => "error",
        };
        counter!("mcp_image_variants_total", "format" => spec.format.name(), "outcome" => outcome)
            .increment(1);
        result
    }

    async fn work(
        &self,
        key: Key,
        spec: VariantSpec,
        expires_at: DateTime<Utc>,
        client: Client,
    ) -> Result<Bytes, Error> {
        let inner = &*self.0;
        let place = inner.admission.enter(client, |_| {}).await.map_err(|_| Error::Busy)?;
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
            Source::Open(open) => {
                let content = open.reader().ok_or(Error::Lost)?;
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
        let share = cache.reserve(made.bytes.len() as u64).ok_or(Error::NoRoom)?;
        let bytes = share.hold(made.bytes.into());
        inner.originals.keep(key, bytes.clone(), expires_at, forgotten);
        Ok(bytes)
    }
}

/// Counts from zero.
fn register_counters() {
    for format in VariantFormat::MADE {
        for outcome in ["ok", "busy", "no_room", "impossible", "error"] {
            counter!("mcp_image_variants_total", "format" => format.name(), "outcome" => outcome)
                .increment(0);
        }
    }
}

/// The strong entity tag of a variant. The same version of this server makes the same bytes of the
/// same image, so the tag is known before they are made.
pub(super) fn entity_tag(original: &Original, spec: &VariantSpec) -> Option<HeaderValue> {
    let version = env!("CARGO_PKG_VERSION");
    let hash = blake3::hash(format!("{version}\n{}\n{spec}", original.metadata.blake3).as_bytes()).to_hex();
    HeaderValue::try_from(format!("\"{}\"", &hash[..TAG_DIGITS])).ok()
}

//! Measures another store.

mod records;

use std::{
    ops::Range,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use layers::{
    send_file::FileSender,
    trace::{self, Kind},
};
use metrics::{Counter, Histogram, counter, histogram};

pub use self::records::ObservedRecords;
use super::{
    ByteStream, Content, Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page, Redirect, Usage,
    Walk, Walked,
};
use crate::image::{ImageId, Metadata};

/// A store that counts and times what another one does.
///
/// The operation `read` is the streaming of an opened image: it is counted when the stream is
/// dropped, and timed without the pauses in which nothing is asked of it.
#[derive(Debug)]
pub struct Observed<S> {
    inner: S,
    usage: Arc<Usage>,
}

impl<S: ImageStore> Observed<S> {
    /// Measures `inner`.
    pub fn new(inner: S) -> Self {
        register_counters(inner.kind());
        Self { inner, usage: Arc::default() }
    }

    /// What this store knows of how much is stored.
    #[must_use]
    pub fn usage(&self) -> Arc<Usage> {
        Arc::clone(&self.usage)
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut measured = Measured::new(self.inner.kind(), operation);
        let started = Instant::now();
        let result =
            if trace::is_recorded() { traced(self.inner.kind(), operation, run).await } else { run.await };
        measured.seconds = started.elapsed().as_secs_f64();
        measured.outcome = result.as_ref().map_or_else(outcome, |_| "ok");
        result
    }
}

/// Runs an operation as a span of the current trace.
async fn traced<T>(
    backend: &'static str,
    operation: &'static str,
    run: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let kind = if backend == "s3" { Kind::Client } else { Kind::Internal };
    let mut span = trace::span(kind, || format!("store {operation}"));
    span.set("mcp_image.storage.backend", backend);
    let result = span.run(run).await;
    if let Err(error) = &result {
        // Nobody failed: there is no such image.
        if matches!(error, Error::NotFound) {
            span.set("error.type", outcome(error));
        } else {
            span.fail(outcome(error));
        }
    }
    result
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: ImageStore> ImageStore for Observed<S> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn start(&self) -> Result<(), Error> {
        self.measure("start", self.inner.start()).await
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        let length = image.bytes.len() as u64;
        self.measure("save", self.inner.save(image)).await?;
        counter!("mcp_image_storage_written_bytes_total", "backend" => self.kind()).increment(length);
        self.usage.saved(length);
        Ok(())
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        let Opened { metadata, content } = self.measure("open", self.inner.open(id)).await?;
        let content =
            Box::new(ObservedContent { backend: self.kind(), inner: content, whole: Arc::default() });
        Ok(Opened { metadata, content })
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        self.measure("metadata", self.inner.metadata(id)).await
    }

    async fn redirect(&self, id: ImageId) -> Result<Option<Redirect>, Error> {
        // Most stores have no redirects: that is no operation.
        let mut measured = Measured::new(self.inner.kind(), "redirect");
        let started = Instant::now();
        let result = self.inner.redirect(id).await;
        if matches!(result, Ok(None)) {
            measured.forget();
        } else {
            measured.seconds = started.elapsed().as_secs_f64();
            measured.outcome = result.as_ref().map_or_else(outcome, |_| "ok");
        }
        result
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        // Afterwards nobody knows its length.
        let length = self.inner.metadata(id).await.map(|metadata| metadata.size_bytes);
        let deleted = self.measure("delete", self.inner.delete(id)).await?;
        if deleted {
            self.usage.removed(1, length.unwrap_or(0));
        }
        Ok(deleted)
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        self.measure("list", self.inner.list(query)).await
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        let expired = self.measure("expire", self.inner.expire(now)).await?;
        self.usage.removed(expired.removed, expired.removed_bytes);
        Ok(expired)
    }

    async fn check(&self) -> Result<(), Error> {
        self.measure("check", self.inner.check()).await
    }

    fn walk(&self) -> Walk<'_> {
        // It is as fast as who walks; they time it.
        self.inner.walk()
    }

    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        let removed = self.measure("remove", self.inner.remove(images)).await?;
        self.usage.removed(removed.removed, removed.removed_bytes);
        Ok(removed)
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        self.measure("inspect", self.inner.inspect(id)).await
    }
}

struct ObservedContent {
    backend: &'static str,
    inner: Box<dyn Content>,
    whole: Arc<OnceLock<WholeReads>>,
}

/// The handles for reads of what is at hand: looking them up would cost more than the read.
struct WholeReads {
    operations: Counter,
    seconds: Histogram,
    bytes: Counter,
}

impl WholeReads {
    fn new(backend: &'static str) -> Self {
        Self {
            operations: counter!(
                "mcp_image_storage_operations_total",
                "backend" => backend, "operation" => "read", "outcome" => "ok"
            ),
            seconds: histogram!(
                "mcp_image_storage_operation_duration_seconds",
                "backend" => backend, "operation" => "read"
            ),
            bytes: counter!("mcp_image_storage_read_bytes_total", "backend" => backend),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Content for ObservedContent {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        let wanted = range.end.saturating_sub(range.start);
        observe_stream(self.backend, wanted, self.inner.stream(range)).await
    }

    async fn send(self: Box<Self>, range: Range<u64>, sender: FileSender) -> Result<ByteStream, Error> {
        let wanted = range.end.saturating_sub(range.start);
        observe_stream(self.backend, wanted, self.inner.send(range, sender)).await
    }

    async fn read(self: Box<Self>, range: Range<u64>) -> Result<Bytes, Error> {
        let mut measured = Measured::new(self.backend, "read");
        let started = Instant::now();
        let result = self.inner.read(range).await;
        measured.seconds = started.elapsed().as_secs_f64();
        measured.outcome = result.as_ref().map_or_else(outcome, |_| "ok");
        result.inspect(|bytes| count_read(self.backend, bytes))
    }

    fn share(&self) -> Option<Box<dyn Content>> {
        let inner = self.inner.share()?;
        Some(Box::new(Self { backend: self.backend, inner, whole: Arc::clone(&self.whole) }))
    }

    fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let started = Instant::now();
        // What is not at hand is read, and counted, another way.
        let bytes = self.inner.at_hand(range)?;
        let whole = self.whole.get_or_init(|| WholeReads::new(self.backend));
        whole.operations.increment(1);
        whole.seconds.record(started.elapsed().as_secs_f64());
        whole.bytes.increment(bytes.len() as u64);
        Some(bytes)
    }
}

/// Measures the opening of a stream, and then the stream.
async fn observe_stream(
    backend: &'static str,
    wanted: u64,
    opening: impl Future<Output = Result<ByteStream, Error>>,
) -> Result<ByteStream, Error> {
    let mut measured = Measured::new(backend, "read");
    let started = Instant::now();
    let result = opening.await;
    measured.seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(inner) => Ok(Box::pin(ObservedStream { inner, asked: None, wanted, read: 0, measured })),
        Err(error) => {
            measured.outcome = outcome(&error);
            Err(error)
        }
    }
}

/// Counts the bytes of a whole read as a stream would.
fn count_read(backend: &'static str, bytes: &Bytes) {
    counter!("mcp_image_storage_read_bytes_total", "backend" => backend).increment(bytes.len() as u64);
}

struct ObservedStream {
    inner: ByteStream,
    /// When the chunk that is being read was asked for.
    asked: Option<Instant>,
    wanted: u64,
    read: u64,
    measured: Measured,
}

impl Stream for ObservedStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let asked = *self.asked.get_or_insert_with(Instant::now);
        let item = ready!(self.inner.as_mut().poll_next(context));
        self.asked = None;
        self.measured.seconds += asked.elapsed().as_secs_f64();
        match &item {
            Some(Ok(chunk)) => self.read += chunk.len() as u64,
            Some(Err(error)) => self.measured.outcome = outcome(error),
            None => {}
        }
        // Who knows the length does not ask for the end of the stream.
        if self.read >= self.wanted && self.measured.outcome == CANCELLED {
            self.measured.outcome = "ok";
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl Drop for ObservedStream {
    fn drop(&mut self) {
        counter!("mcp_image_storage_read_bytes_total", "backend" => self.measured.backend)
            .increment(self.read);
    }
}

/// What an operation is counted as when its caller goes away first.
const CANCELLED: &str = "cancelled";

/// What is not counted at all.
const FORGOTTEN: &str = "";

/// An operation; counted when dropped, so that one whose caller goes away is counted too.
struct Measured {
    backend: &'static str,
    operation: &'static str,
    outcome: &'static str,
    seconds: f64,
}

impl Measured {
    fn new(backend: &'static str, operation: &'static str) -> Self {
        Self { backend, operation, outcome: CANCELLED, seconds: 0.0 }
    }

    /// Is not counted.
    fn forget(&mut self) {
        self.outcome = FORGOTTEN;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if self.outcome == FORGOTTEN {
            return;
        }
        counter!(
            "mcp_image_storage_operations_total",
            "backend" => self.backend, "operation" => self.operation, "outcome" => self.outcome
        )
        .increment(1);
        if self.outcome != CANCELLED {
            histogram!(
                "mcp_image_storage_operation_duration_seconds",
                "backend" => self.backend, "operation" => self.operation
            )
            .record(self.seconds);
        }
    }
}

/// Counts from zero what the server does all the time.
fn register_counters(backend: &'static str) {
    counter!("mcp_image_storage_written_bytes_total", "backend" => backend).increment(0);
    counter!("mcp_image_storage_read_bytes_total", "backend" => backend).increment(0);
    for operation in ["save", "open", "read", "metadata", "list", "delete", "expire", "check"] {
        for outcome in ["ok", CANCELLED].into_iter().chain(OUTCOMES) {
            counter!(
                "mcp_image_storage_operations_total",
                "backend" => backend, "operation" => operation, "outcome" => outcome
            )
            .increment(0);
        }
    }
}

/// What [`outcome`] gives.
const OUTCOMES: [&str; 6] = ["not_found", "already_exists", "full", "read_only", "unavailable", "corrupt"];

fn outcome(error: &Error) -> &'static str {
    match error {
        Error::NotFound => "not_found",
        Error::AlreadyExists => "already_exists",
        Error::Full(_) => "full",
        Error::ReadOnly(_) => "read_only",
        Error::Unavailable(_) => "unavailable",
        Error::Corrupt { .. } => "corrupt",
    }
}

#[cfg(test)]
mod tests;

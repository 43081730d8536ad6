use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use metrics::counter;
use reqwest::Response;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Failure, Shared,
    request::{META_SHA256, Operation},
    sign::hex,
};
use crate::{
    image::{ImageId, Metadata},
    storage::{ByteStream, Content, Error},
};

/// Bytes a second that a body must have on average, counted over the time in which it is waited
/// for: one that drips is given up, while a client that reads slowly costs nothing.
const SLOWEST: u64 = 1024;

/// The bytes of an open image: the answer whose head was read, or, for a part, one of its own.
pub(super) struct S3Content {
    shared: Arc<Shared>,
    id: ImageId,
    key: String,
    size: u64,
    /// Names exactly this state of the object.
    tag: Option<HeaderValue>,
    sha256: Option<String>,
    response: Response,
}

impl S3Content {
    pub(super) fn new(shared: Arc<Shared>, metadata: &Metadata, key: String, response: Response) -> Self {
        let header = |name: &http::HeaderName| response.headers().get(name).cloned();
        let sha256 = header(&META_SHA256).and_then(|value| value.to_str().ok().map(str::to_owned));
        let tag = header(&header::ETAG);
        Self { shared, id: metadata.image_id, key, size: metadata.size_bytes, tag, sha256, response }
    }
}

#[async_trait]
impl Content for S3Content {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        if range.end > self.size {
            let reason = format!("it ends at byte {}, {} were asked for", self.size, range.end);
            return Ok(Box::pin(futures_util::stream::iter([Err(Error::Corrupt { id: self.id, reason })])));
        }
        let whole = range.start == 0 && range.end == self.size;
        let mut reading = Reading {
            shared: self.shared,
            id: self.id,
            key: self.key,
            tag: self.tag,
            size: self.size,
            rest: range,
            response: whole.then_some(self.response),
            check: self.sha256.filter(|_| whole).map(|expected| (Sha256::new(), expected)),
            resumed: 0,
            waited: Duration::ZERO,
            read: 0,
        };
        // What cannot be had is told before the answer begins.
        if !whole && !reading.rest.is_empty() {
            reading.response = Some(reading.part().await.map_err(|failure| reading.failed(failure))?);
        }
        Ok(Box::pin(futures_util::stream::try_unfold(reading, Reading::next)))
    }
}

/// A stream in the middle.
struct Reading {
    shared: Arc<Shared>,
    id: ImageId,
    key: String,
    tag: Option<HeaderValue>,
    size: u64,
    rest: Range<u64>,
    response: Option<Response>,
    /// The hash so far and what it must come to, where all of the image is read.
    check: Option<(Sha256, String)>,
    resumed: u32,
    /// Time spent on waiting for bytes of this answer, and those that came.
    waited: Duration,
    read: u64,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        loop {
            let failure = match self.chunk().await {
                Ok(chunk) => {
                    self.rest.start += chunk.len() as u64;
                    self.read += chunk.len() as u64;
                    self.verify(&chunk)?;
                    return Ok(Some((chunk, self)));
                }
                Err(failure) => failure,
            };
            self.response = None;
            // What broke off is taken up where it broke off.
            let mends = failure.is_outage() && self.resumed < self.shared.client.max_retries();
            if !mends {
                return Err(self.failed(failure));
            }
            self.resumed += 1;
            (self.waited, self.read) = (Duration::ZERO, 0);
            counter!("mcp_image_s3_resumed_reads_total").increment(1);
            tracing::debug!(image_id = %self.id, %failure, at = self.rest.start, "a read is resumed");
        }
    }

    async fn chunk(&mut self) -> Result<Bytes, Failure> {
        if self.response.is_none() {
            self.response = Some(self.part().await?);
        }
        let Some(response) = &mut self.response else { return Err(Failure::Absent) };
        let asked = Instant::now();
        let chunk = self.shared.client.chunk(response).await;
        self.waited += asked.elapsed();
        let left = self.rest.end - self.rest.start;
        match chunk? {
            Some(chunk) if chunk.len() as u64 > left => {
                Err(Failure::BadAnswer("it has more bytes than it says".to_owned()))
            }
            Some(chunk) => {
                let idle = self.shared.client.timeouts().idle;
                let slowest = idle + Duration::from_secs(self.read / SLOWEST);
                if self.waited > slowest && (chunk.len() as u64) < left {
                    return Err(Failure::TimedOut { phase: "steady flow of the body", after: slowest });
                }
                Ok(chunk)
            }
            None => Err(Failure::Interrupted("the body ends early".to_owned())),
        }
    }

    /// The rest, asked for by a request of its own.
    async fn part(&self) -> Result<Response, Failure> {
        let Range { start, end } = self.rest;
        let value = |text: String| HeaderValue::try_from(text).map_err(|_| Failure::Signing);
        let range = value(format!("bytes={start}-{}", end - 1))?;
        let mut request = self.shared.request(Operation::Get, &self.key)?.with_header(header::RANGE, range);
        if let Some(tag) = &self.tag {
            request = request.with_header(header::IF_MATCH, tag.clone());
        }
        let response = self.shared.client.open(&request).await?;
        let expected = value(format!("bytes {start}-{}/{}", end - 1, self.size))?;
        let fits = response.status() == StatusCode::PARTIAL_CONTENT
            && response.headers().get(header::CONTENT_RANGE) == Some(&expected);
        if fits {
            Ok(response)
        } else {
            Err(Failure::BadAnswer("it is not the range that was asked for".to_owned()))
        }
    }

    /// Holds the last chunk back unless the whole is what was saved.
    fn verify(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let Some((hash, _)) = &mut self.check else { return Ok(()) };
        hash.update(chunk);
        if !self.rest.is_empty() {
            return Ok(());
        }
        if self.check.take().is_none_or(|(hash, expected)| hex(&hash.finalize()) == expected) {
            return Ok(());
        }
        let reason = "its bytes are not those that were saved".to_owned();
        Err(Error::Corrupt { id: self.id, reason })
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            // It was there when it was opened.
            Failure::Absent | Failure::Precondition => Error::NotFound,
            failure => self.shared.failed("read an image in")(failure).into(),
        }
    }
}

//! Single objects: one request each, and what an answer must be like.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Shared,
    client::{Answer, GivenUp},
    error::Failure,
    request::{Digests, META_SAVE, META_SHA256, Operation, Request},
};

/// Answers without a body worth having.
const MAX_ANSWER: usize = 64 * 1024;

/// Whether the other side honours `If-None-Match: *` on a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Conditional {
    /// Nobody has looked yet: asked for, and looked after.
    Unknown = 0,
    /// Exactly one of those who create an object at once succeeds.
    Honoured = 1,
    /// It overwrites. Then one looks before, and again afterwards whose object it is: two replicas
    /// that save one id within the same moment may still both succeed. Ids have 74 random bits, so
    /// this takes a caller who sends one id twice.
    Ignored = 2,
}

/// How the other side takes a replacement that must hit exactly what was seen (`If-Match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Replacing {
    /// Nobody has looked yet.
    Unknown = 0,
    /// With the entity tag as it was given.
    Quoted = 1,
    /// With the entity tag without its quotes (the gateway of Ceph, up to version 16 at least).
    Bare = 2,
    /// Not at all: it overwrites, or it refuses all.
    Ignored = 3,
}

/// A new object.
pub(super) struct NewObject<'a> {
    pub(super) key: &'a str,
    pub(super) body: Bytes,
    pub(super) digests: &'a Digests,
    pub(super) media_type: &'static str,
    /// The save that writes it.
    pub(super) save: &'a HeaderValue,
}

impl Shared {
    pub(super) fn conditional(&self) -> Conditional {
        match self.conditional.load(Ordering::Relaxed) {
            1 => Conditional::Honoured,
            2 => Conditional::Ignored,
            _ => Conditional::Unknown,
        }
    }

    pub(super) fn set_conditional(&self, found: Conditional) {
        if found == Conditional::Ignored && self.conditional() != found {
            tracing::warn!(
                bucket = self.bucket,
                host = self.endpoint.host(),
                "S3 does not honour `If-None-Match: *`: that an image or a record is never overwritten is only \
                 checked before and after each creation"
            );
        }
        self.conditional.store(found as u8, Ordering::Relaxed);
    }

    pub(super) fn replacing(&self) -> Replacing {
        match self.replacing.load(Ordering::Relaxed) {
            1 => Replacing::Quoted,
            2 => Replacing::Bare,
            3 => Replacing::Ignored,
            _ => Replacing::Unknown,
        }
    }

    pub(super) fn set_replacing(&self, found: Replacing) {
        if found == Replacing::Ignored && self.replacing() != found {
            tracing::warn!(
                bucket = self.bucket,
                host = self.endpoint.host(),
                "S3 does not honour `If-Match`: that replicas agree on a record is only checked before and after \
                 each change"
            );
        }
        self.replacing.store(found as u8, Ordering::Relaxed);
    }

    pub(super) fn request(&self, operation: Operation, key: &str) -> Result<Request, Failure> {
        Ok(Request::new(operation, self.endpoint.object(key, &[]).ok_or(Failure::Signing)?))
    }

    /// A whole object of at most `max_bytes`.
    pub(super) async fn get(&self, key: &str, max_bytes: usize) -> Result<Answer, Failure> {
        Ok(self.client.fetch(&self.request(Operation::Get, key)?, max_bytes).await?)
    }

    /// The headers of an object; `None` if it is not there.
    pub(super) async fn head(&self, key: &str) -> Result<Option<HeaderMap>, Failure> {
        match self.client.fetch(&self.request(Operation::Head, key)?, 0).await {
            Ok(answer) => Ok(Some(answer.headers)),
            Err(GivenUp { failure: Failure::Absent, .. }) => Ok(None),
            Err(given_up) => Err(given_up.failure),
        }
    }

    /// Removes an object, which need not be there.
    pub(super) async fn remove(&self, key: &str) -> Result<(), Failure> {
        match self.client.fetch(&self.request(Operation::Delete, key)?, MAX_ANSWER).await {
            Ok(_) | Err(GivenUp { failure: Failure::Absent, .. }) => Ok(()),
            Err(given_up) => Err(given_up.failure),
        }
    }

    /// Creates an object and verifies what was stored: [`Failure::Precondition`] if it is there.
    pub(super) async fn create(&self, object: &NewObject<'_>) -> Result<(), Failure> {
        let conditional = self.conditional();
        if conditional != Conditional::Honoured && self.head(object.key).await?.is_some() {
            return Err(Failure::Precondition);
        }
        let mut request = self.put(object)?;
        if conditional != Conditional::Ignored {
            request = request.with_header(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let headers = match self.client.fetch(&request, MAX_ANSWER).await {
            Ok(answer) => answer.headers,
            // The lost answer of an earlier try may have been a yes.
            Err(GivenUp { failure: Failure::Precondition, repeated: true }) => HeaderMap::new(),
            Err(GivenUp { failure: Failure::Refused { status, .. }, .. })
                if status == StatusCode::NOT_IMPLEMENTED && conditional == Conditional::Unknown =>
            {
                self.set_conditional(Conditional::Ignored);
                return Box::pin(self.create(object)).await;
            }
            Err(given_up) => return Err(given_up.failure),
        };
        self.verify(object, &headers, conditional == Conditional::Honoured && !headers.is_empty()).await
    }

    /// Writes an object over the one with the entity tag `seen`, and verifies what was stored:
    /// [`Failure::Precondition`] if another one is there, or none.
    ///
    /// Where the other side does not honour that, it overwrites whatever is there, and only finds out
    /// whether another one came after.
    pub(super) async fn change(&self, object: &NewObject<'_>, seen: &HeaderValue) -> Result<(), Failure> {
        let put = self.put(object)?;
        let Some(tag) = self.replacing().tag(seen) else {
            let answer = self.client.fetch(&put, MAX_ANSWER).await?;
            return self.verify(object, &answer.headers, false).await;
        };
        match self.client.fetch(&put.with_header(header::IF_MATCH, tag), MAX_ANSWER).await {
            Ok(answer) => self.verify(object, &answer.headers, true).await,
            // The lost answer of an earlier try may have been a yes.
            Err(GivenUp { failure: Failure::Precondition | Failure::Absent, repeated: true }) => {
                match self.head(object.key).await? {
                    Some(stored) if stored.get(META_SAVE) == Some(object.save) => Ok(()),
                    _ => Err(Failure::Precondition),
                }
            }
            Err(GivenUp { failure: Failure::Absent, .. }) => Err(Failure::Precondition),
            Err(given_up) => Err(given_up.failure),
        }
    }

    /// Writes an object over whatever is there, and verifies what was stored.
    pub(super) async fn replace(&self, object: &NewObject<'_>) -> Result<(), Failure> {
        let answer = self.client.fetch(&self.put(object)?, MAX_ANSWER).await?;
        self.verify(object, &answer.headers, true).await
    }

    fn put(&self, object: &NewObject<'_>) -> Result<Request, Failure> {
        let sha256 = HeaderValue::from_str(&object.digests.sha256).map_err(|_| Failure::Signing)?;
        Ok(self
            .request(Operation::Put, object.key)?
            .with_body(object.body.clone(), object.digests, object.media_type)
            .with_header(META_SHA256, sha256)
            .with_header(META_SAVE, object.save.clone()))
    }

    /// The entity tag of a plain object is the MD5 of its bytes: then the answer to the upload proves
    /// what is stored. Where it is not (encrypted by a key service), or where it is not certain whose
    /// object it is, the object itself is asked.
    async fn verify(&self, object: &NewObject<'_>, put: &HeaderMap, ours: bool) -> Result<(), Failure> {
        let told = verdict(object.digests, put);
        if told == Some(false) {
            return Err(Failure::BadAnswer("what it stored is not what was sent".to_owned()));
        }
        if told == Some(true) && ours {
            return Ok(());
        }
        let stored = self.head(object.key).await?;
        let stored = stored.ok_or_else(|| Failure::BadAnswer("what was stored is not there".to_owned()))?;
        if stored.get(META_SAVE) != Some(object.save) {
            return Err(Failure::Precondition);
        }
        if verdict(object.digests, &stored) == Some(false)
            || length(&stored) != Some(object.body.len() as u64)
        {
            return Err(Failure::BadAnswer("what it stored is not what was sent".to_owned()));
        }
        Ok(())
    }
}

impl Replacing {
    /// What to send for an entity tag; `None` where it is of no use.
    pub(super) fn tag(self, seen: &HeaderValue) -> Option<HeaderValue> {
        match self {
            Self::Quoted => Some(seen.clone()),
            Self::Bare => HeaderValue::from_str(seen.to_str().ok()?.trim_matches('"')).ok(),
            Self::Unknown | Self::Ignored => None,
        }
    }
}

/// What the entity tag says about the bytes; `None` if it does not tell.
fn verdict(digests: &Digests, headers: &HeaderMap) -> Option<bool> {
    let encryption = |name: &str| headers.get(name).is_some_and(|value| value != "AES256");
    if encryption("x-amz-server-side-encryption")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
    {
        return None;
    }
    digests.match_tag(headers.get(header::ETAG)?.to_str().ok()?)
}

/// The length that headers tell.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

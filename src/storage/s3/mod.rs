//! Images in a bucket of S3, or of what speaks its language.
//!
//! ```text
//! <prefix><first 6 hex digits of the id>/<next 2>/<id>.json     metadata; its creation reserves the id
//!                                                <id>.png      the image; its appearance is the commit
//! <prefix>records/<kind>/<key>                                  a record
//! ```
//!
//! The names are those of the file backend, so keys sort by age. rust-s3 signs, reads documents and
//! finds credentials; every request goes through our own HTTP client. rust-s3's client follows
//! redirects with the security token, reads bodies without a bound and limits the time of a whole
//! download: none of that can be turned off, so nothing is left to it, listings and deletions
//! included.
//!
//! Several replicas may share a bucket. Each deletion is idempotent, and who deleted an image is
//! known within a process; two replicas that meet over one image may both count it. A bucket that
//! keeps versions works: what is deleted is hidden, and goes by a lifecycle rule of the bucket.

mod breaker;
mod client;
mod config;
mod content;
mod credentials;
mod delete;
mod endpoint;
mod error;
mod expire;
mod key;
mod list;
mod locks;
mod object;
mod probe;
mod read;
mod records;
mod redirect;
mod request;
mod save;
mod sign;
#[cfg(test)]
mod tests;
mod upkeep;
mod xml;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU8},
    time::SystemTime,
};

use async_trait::async_trait;
use chrono::Utc;

use self::{
    client::{Client, GivenUp},
    endpoint::Endpoint,
    error::{Failed, Failure},
    key::Keys,
    locks::Locks,
};
pub use self::{
    config::{Delivery, S3Config, S3Credentials, S3Identity, S3Timeouts, WebIdentity},
    records::S3Records,
};
use super::{
    Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page, RecordKey, RecordKind, Redirect, Walk,
    Walked,
};
use crate::image::{ImageId, Metadata};

/// A store in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    endpoint: Endpoint,
    /// Where clients find the bucket.
    public: Endpoint,
    keys: Keys,
    bucket: String,
    delivery: Delivery,
    locks: Locks<ImageId>,
    record_locks: Locks<(RecordKind, RecordKey)>,
    /// Whether creations that must not overwrite are honoured: see [`object::Conditional`].
    conditional: AtomicU8,
    /// How replacements of what was seen are asked for: see [`object::Replacing`].
    replacing: AtomicU8,
    /// One cleaning at a time, and the key at which it looks for leftovers next.
    sweep_from: tokio::sync::Mutex<Option<String>>,
    /// The rights that were missing at the last check, so that they are told once.
    told: Mutex<String>,
}

impl S3Store {
    /// A store for the configured bucket; nothing is sent yet.
    ///
    /// # Errors
    /// When the certificates cannot be read, or the bucket cannot stand in the host's name.
    pub fn new(config: &S3Config) -> Result<Self, Error> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable(error);
        let endpoint = Endpoint::new(config, false).map_err(|error| unusable(error.into()))?;
        let public = Endpoint::new(config, true).map_err(|error| unusable(error.into()))?;
        let client = Client::new(config).map_err(|error| unusable(error.into()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                endpoint,
                public,
                keys: Keys::new(&config.prefix),
                bucket: config.bucket.clone(),
                delivery: config.delivery,
                locks: Locks::default(),
                record_locks: Locks::default(),
                conditional: AtomicU8::default(),
                replacing: AtomicU8::default(),
                sweep_from: tokio::sync::Mutex::default(),
                told: Mutex::default(),
            }),
        })
    }

    /// The records in the same bucket.
    #[must_use]
    pub fn records(&self) -> S3Records {
        S3Records::new(Arc::clone(&self.shared))
    }

    /// Whether S3 failed so often that it is left alone for a while.
    pub(super) fn is_paused(&self) -> bool {
        self.shared.client.is_paused()
    }

    /// Whether clients are sent to the bucket.
    pub(super) fn redirects(&self) -> bool {
        self.shared.delivery == Delivery::Redirect
    }

    /// Saves an image that may be there already, in whole or in part, from an earlier try: `Ok` when
    /// exactly this image is there, whole.
    pub(super) async fn adopt(&self, image: &NewImage) -> Result<(), Error> {
        save::adopt(&self.shared, image).await
    }

    /// Removes an image whether it has expired or not; `false` if it was not there.
    pub(super) async fn remove(&self, id: ImageId) -> Result<bool, Error> {
        delete::delete(&self.shared, id, None).await
    }
}

#[async_trait]
impl ImageStore for S3Store {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn start(&self) -> Result<(), Error> {
        probe::start(&self.shared).await
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        save::save(&self.shared, &image).await
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        read::open(&self.shared, id, Utc::now()).await
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        read::metadata(&self.shared, id, Utc::now()).await
    }

    async fn redirect(&self, id: ImageId) -> Result<Option<Redirect>, Error> {
        if !self.redirects() {
            return Ok(None);
        }
        redirect::redirect(&self.shared, id, Utc::now()).await.map(Some)
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        delete::delete(&self.shared, id, Some(Utc::now())).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        list::list(&self.shared, &query, Utc::now()).await
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        expire::expire(&self.shared, now).await
    }

    async fn check(&self) -> Result<(), Error> {
        probe::check(&self.shared).await
    }

    fn walk(&self) -> Walk<'_> {
        upkeep::walk(&self.shared)
    }

    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        upkeep::remove(&self.shared, images).await
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        upkeep::inspect(&self.shared, id).await
    }
}

impl Shared {
    /// Says what was tried when a request fails for good: `save an image in`.
    fn failed(&self, action: &'static str) -> impl Fn(Failure) -> Failed + '_ {
        move |failure| Failed {
            action,
            bucket: self.bucket.clone(),
            host: self.endpoint.host().to_owned(),
            failure,
        }
    }
}

impl From<GivenUp> for Failure {
    fn from(given_up: GivenUp) -> Self {
        given_up.failure
    }
}

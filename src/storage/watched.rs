//! Tells a listener which images go.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page, Redirect, Walk, Walked};
use crate::image::{ImageId, Metadata};

/// Who wants to know which images go. Called in the middle of the operation: be quick.
pub trait Removals: Send + Sync + 'static {
    /// The image was deleted.
    fn deleted(&self, id: ImageId);

    /// A cleaning cycle removed these images: their time was over, or a quota was exceeded.
    fn expired(&self, ids: &[ImageId]);
}

/// A store that tells a listener which images go through it.
pub struct Watched {
    inner: Arc<dyn ImageStore>,
    listener: Arc<dyn Removals>,
}

impl Watched {
    /// Tells `listener` what goes from `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ImageStore>, listener: Arc<dyn Removals>) -> Self {
        Self { inner, listener }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("store", &self.inner.kind()).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ImageStore for Watched {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn start(&self) -> Result<(), Error> {
        self.inner.start().await
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        self.inner.save(image).await
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        self.inner.open(id).await
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        self.inner.metadata(id).await
    }

    async fn redirect(&self, id: ImageId) -> Result<Option<Redirect>, Error> {
        self.inner.redirect(id).await
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        let deleted = self.inner.delete(id).await?;
        if deleted {
            self.listener.deleted(id);
        }
        Ok(deleted)
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        self.inner.list(query).await
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        let expired = self.inner.expire(now).await?;
        if !expired.ids.is_empty() {
            self.listener.expired(&expired.ids);
        }
        Ok(expired)
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    fn walk(&self) -> Walk<'_> {
        self.inner.walk()
    }

    async fn remove(&self, images: &[Walked]) -> Result<Expired, Error> {
        let removed = self.inner.remove(images).await?;
        if !removed.ids.is_empty() {
            self.listener.expired(&removed.ids);
        }
        Ok(removed)
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        self.inner.inspect(id).await
    }
}

use std::{fmt, sync::Arc};

use super::{
    Config, Cors, Purger, asked::Sizes, cache::Cache, listings::Listings, originals::Originals, purge,
    variants::Variants,
};
use crate::{
    image::{ImageId, ImageUrls},
    storage::{self, ImageStore, Removals},
};

/// What delivery is made of: the store, what of it is in memory, and the work on variants. Cheap to
/// clone; clones share everything.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    originals: Originals,
    variants: Variants,
    listings: Listings,
    urls: ImageUrls,
    sizes: Sizes,
    cdn: bool,
    cors: Cors,
    purger: Option<Purger>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("store", &self.originals().store().kind()).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Delivers what is in `store`. What goes through this, `purger` is told.
    #[must_use]
    pub fn new(store: Arc<dyn ImageStore>, config: &Config, purger: Option<Purger>) -> Self {
        purge::register();
        // What is in this process's memory need not be there twice.
        let max_bytes = if store.kind() == "memory" { 0 } else { config.cache_bytes };
        let originals = Originals::new(store, Arc::new(Cache::new(max_bytes)), max_bytes);
        let variants = Variants::new(originals.clone(), config.limits, config.variant_concurrency);
        Self(Arc::new(Inner {
            originals,
            variants,
            listings: Listings::default(),
            urls: config.urls.clone(),
            sizes: config.variant_sizes.clone(),
            cdn: config.cdn,
            cors: config.cors.clone(),
            purger,
        }))
    }

    /// Which origins' scripts may read images.
    #[must_use]
    pub fn cors(&self) -> &Cors {
        &self.0.cors
    }

    pub(super) fn originals(&self) -> &Originals {
        &self.0.originals
    }

    pub(super) fn variants(&self) -> &Variants {
        &self.0.variants
    }

    pub(super) fn listings(&self) -> &Listings {
        &self.0.listings
    }

    pub(super) fn urls(&self) -> &ImageUrls {
        &self.0.urls
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.0.sizes
    }

    pub(super) fn has_cdn(&self) -> bool {
        self.0.cdn
    }

    /// Deletes an image; `false` if it was not there.
    pub(super) async fn delete(&self, id: ImageId) -> Result<bool, storage::Error> {
        let deleted = self.originals().store().delete(id).await?;
        if deleted {
            self.deleted(id);
        }
        Ok(deleted)
    }
}

impl Removals for Delivery {
    fn deleted(&self, id: ImageId) {
        self.originals().forget(id);
        if let Some(purger) = &self.0.purger {
            purger.deleted(id);
        }
    }

    fn expired(&self, ids: &[ImageId]) {
        // Their time is over for readers already; the disk has its space back once they are closed.
        ids.iter().for_each(|id| self.originals().close(*id));
        if let Some(purger) = &self.0.purger {
            purger.expired(ids);
        }
    }
}

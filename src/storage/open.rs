use std::sync::Arc;

use super::{
    Backend, Config, Error, Fallback, FileStore, ImageStore, MemoryRecords, MemoryStore, Observed,
    ObservedRecords, RecordStore, S3Store, Usage,
};

/// The configured backend, measured: all that replicas share.
#[derive(Clone)]
pub struct Storage {
    /// Where images live.
    pub images: Arc<dyn ImageStore>,
    /// What replicas must agree on.
    pub records: Arc<dyn RecordStore>,
    /// How many images there are.
    pub usage: Arc<Usage>,
}

impl Storage {
    /// Builds the configured backend.
    ///
    /// # Errors
    /// When the folder of a file backend can neither be used nor made, or the certificates of an S3
    /// backend cannot be read; the message names it and says what to do.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Ok(match &config.backend {
            Backend::File { path } => {
                let store = FileStore::open(path, config.sync)?;
                Self::measured(store.clone(), store.records())
            }
            Backend::Memory { max_bytes } => {
                Self::measured(MemoryStore::new(*max_bytes), MemoryRecords::default())
            }
            Backend::S3(s3) => {
                let store = S3Store::new(s3)?;
                // In the bucket alone: a folder of one replica agrees with nobody.
                let records = store.records();
                match &s3.fallback {
                    None => Self::measured(store, records),
                    Some(path) => {
                        let local = FileStore::open(path, config.sync)?;
                        Self::measured(Fallback::new(store, local), records)
                    }
                }
            }
        })
    }

    fn measured(images: impl ImageStore, records: impl RecordStore) -> Self {
        let images = Observed::new(images);
        let usage = images.usage();
        Self { images: Arc::new(images), records: Arc::new(ObservedRecords::new(records)), usage }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("kind", &self.images.kind()).finish_non_exhaustive()
    }
}

/// The images of the configured backend; see [`Storage::open`].
///
/// # Errors
/// As there.
pub fn open(config: &Config) -> Result<Arc<dyn ImageStore>, Error> {
    Storage::open(config).map(|storage| storage.images)
}

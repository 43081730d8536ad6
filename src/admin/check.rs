use blake3::Hasher;
use chrono::Utc;
use futures_util::TryStreamExt as _;

use crate::{
    image::{ImageId, Metadata},
    storage::{Error, ImageStore},
};

/// How an image stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// What is stored is what was saved.
    Whole(Box<Metadata>),
    /// Its time is over; it is not served, and the cleaner will take it.
    Expired,
    /// There is no such image.
    Absent,
    /// What is stored is not what was saved.
    Damaged(String),
}

/// Reads an image whole and compares it with its metadata.
pub(super) async fn check(store: &dyn ImageStore, id: ImageId) -> Result<Standing, Error> {
    match read(store, id).await {
        Ok(metadata) => Ok(Standing::Whole(Box::new(metadata))),
        Err(Error::Corrupt { reason, .. }) => Ok(Standing::Damaged(reason)),
        Err(Error::NotFound) => match store.inspect(id).await {
            Ok(metadata) if metadata.is_expired(Utc::now()) => Ok(Standing::Expired),
            Ok(_) => Ok(Standing::Damaged("its metadata is there and it cannot be opened".to_owned())),
            Err(Error::NotFound) => Ok(Standing::Absent),
            Err(Error::Corrupt { reason, .. }) => Ok(Standing::Damaged(reason)),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

async fn read(store: &dyn ImageStore, id: ImageId) -> Result<Metadata, Error> {
    let opened = store.open(id).await?;
    let metadata = opened.metadata;
    let mut stream = opened.content.stream(0..metadata.size_bytes).await?;
    let mut hash = Hasher::new();
    let mut length = 0;
    while let Some(chunk) = stream.try_next().await? {
        hash.update(&chunk);
        length += chunk.len() as u64;
    }
    compare(&metadata, length, &hash)?;
    Ok(metadata)
}

/// Whether bytes of this length and hash are what was saved.
pub(super) fn compare(metadata: &Metadata, length: u64, hash: &Hasher) -> Result<(), Error> {
    let corrupt = |reason| Err(Error::Corrupt { id: metadata.image_id, reason });
    if length != metadata.size_bytes {
        return corrupt(format!("{} bytes were saved, {length} are there", metadata.size_bytes));
    }
    let found = hash.finalize().to_hex();
    if *found != *metadata.blake3 {
        return corrupt(format!("its BLAKE3 hash was {}, it is {found}", metadata.blake3));
    }
    Ok(())
}

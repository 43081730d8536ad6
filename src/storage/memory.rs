//! Images and records in this process's memory.

mod records;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use self::records::MemoryRecords;
use super::{
    ByteStream, Content, Error, Expired, ImageStore, ListQuery, NewImage, Opened, Page, Walk, Walked,
};
use crate::image::{ImageId, Metadata};

/// A store that is gone with the process: for tests and for trying things out.
#[derive(Debug)]
pub struct MemoryStore {
    max_bytes: u64,
    images: Mutex<Images>,
}

#[derive(Debug, Default)]
struct Images {
    by_id: BTreeMap<ImageId, NewImage>,
    bytes: u64,
}

impl MemoryStore {
    /// An empty store that keeps at most `max_bytes` of images.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, images: Mutex::default() }
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: ImageId) -> Result<NewImage, Error> {
        let images = self.images();
        let image = images.by_id.get(&id).filter(|image| !image.metadata.is_expired(Utc::now()));
        image.cloned().ok_or(Error::NotFound)
    }
}

impl Images {
    fn remove(&mut self, id: ImageId) -> Option<NewImage> {
        let image = self.by_id.remove(&id)?;
        self.bytes -= image.bytes.len() as u64;
        Some(image)
    }

    fn expire(&mut self, now: DateTime<Utc>) -> Expired {
        let mut expired = Expired::default();
        while let Some((&id, image)) = self.by_id.first_key_value()
            && image.metadata.is_expired(now)
        {
            expired.note(id, image.bytes.len() as u64);
            self.remove(id);
        }
        expired
    }
}

#[async_trait]
impl ImageStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn save(&self, image: NewImage) -> Result<(), Error> {
        let id = image.metadata.image_id;
        let length = image.bytes.len() as u64;
        if length != image.metadata.size_bytes {
            let reason = format!("its metadata says {} bytes, it has {length}", image.metadata.size_bytes);
            return Err(Error::Corrupt { id, reason });
        }
        let mut images = self.images();
        if images.by_id.contains_key(&id) {
            return Err(Error::AlreadyExists);
        }
        if images.bytes + length > self.max_bytes {
            images.expire(Utc::now());
        }
        if images.bytes + length > self.max_bytes {
            return Err(Error::Full(None));
        }
        images.bytes += length;
        images.by_id.insert(id, image);
        Ok(())
    }

    async fn open(&self, id: ImageId) -> Result<Opened, Error> {
        let NewImage { bytes, metadata } = self.find(id)?;
        Ok(Opened { metadata, content: Box::new(MemoryContent { id, bytes }) })
    }

    async fn metadata(&self, id: ImageId) -> Result<Metadata, Error> {
        Ok(self.find(id)?.metadata)
    }

    async fn delete(&self, id: ImageId) -> Result<bool, Error> {
        let removed = self.images().remove(id);
        Ok(removed.is_some_and(|image| !image.metadata.is_expired(Utc::now())))
    }

    async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        let mut page = Page::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let now = Utc::now();
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let images = self.images();
        for (id, image) in images.by_id.iter().rev() {
            if query.cursor.is_some_and(|cursor| *id >= cursor)
                || image.metadata.is_expired(now)
                || !(prefix.is_empty() || id.to_string().starts_with(prefix))
            {
                continue;
            }
            if page.images.len() == query.limit {
                page.next = page.images.last().map(|last| last.image_id);
                break;
            }
            page.images.push(image.metadata.clone());
        }
        Ok(page)
    }

    async fn expire(&self, now: SystemTime) -> Result<Expired, Error> {
        Ok(self.images().expire(now.into()))
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn walk(&self) -> Walk<'_> {
        let walked = |image: &NewImage| Walked {
            image_id: image.metadata.image_id,
            format: image.metadata.format,
            size_bytes: image.metadata.size_bytes,
        };
        let all: Vec<_> = self.images().by_id.values().map(|image| Ok(walked(image))).collect();
        Box::pin(futures_util::stream::iter(all))
    }

    async fn remove(&self, walked: &[Walked]) -> Result<Expired, Error> {
        let mut images = self.images();
        let mut done = Expired::default();
        for image in walked {
            if images.remove(image.image_id).is_some() {
                done.note(image.image_id, image.size_bytes);
            }
        }
        Ok(done)
    }

    async fn inspect(&self, id: ImageId) -> Result<Metadata, Error> {
        let images = self.images();
        images.by_id.get(&id).map(|image| image.metadata.clone()).ok_or(Error::NotFound)
    }
}

struct MemoryContent {
    id: ImageId,
    bytes: Bytes,
}

#[async_trait]
impl Content for MemoryContent {
    async fn stream(self: Box<Self>, range: Range<u64>) -> Result<ByteStream, Error> {
        let length = self.bytes.len() as u64;
        let whole = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let chunk = match whole {
            _ if range.is_empty() => None,
            Some((start, end)) if range.end <= length => Some(Ok(self.bytes.slice(start..end))),
            _ => {
                let reason = format!("it ends at byte {length}, {} were asked for", range.end);
                Some(Err(Error::Corrupt { id: self.id, reason }))
            }
        };
        Ok(Box::pin(futures_util::stream::iter(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::image::{Format, Generation};

    fn image(length: usize, life: Duration) -> NewImage {
        let now = SystemTime::now();
        let metadata = Metadata {
            image_id: ImageId::now(),
            format: Format::Png,
            width: 1,
            height: 1,
            size_bytes: length as u64,
            blake3: String::new(),
            created_at: now.into(),
            expires_at: (now + life).into(),
            thumbhash: None,
            generation: Generation {
                prompt: "a lighthouse".to_owned(),
                negative_prompt: None,
                num_inference_steps: 1,
                guidance_scale: 7.5,
                seed: None,
                model: "test".to_owned(),
                predictor: "embedded".to_owned(),
                generation_seconds: 0.5,
            },
        };
        NewImage { bytes: vec![0; length].into(), metadata }
    }

    #[tokio::test]
    async fn save_beyond_the_limit_is_full_until_something_goes() {
        let store = MemoryStore::new(100);
        let hour = Duration::from_secs(3600);
        let first = image(60, hour);
        store.save(first.clone()).await.unwrap();
        assert!(matches!(store.save(image(41, hour)).await, Err(Error::Full(None))));
        store.save(image(40, hour)).await.unwrap();
        assert!(store.delete(first.metadata.image_id).await.unwrap());
        store.save(image(60, hour)).await.unwrap();
    }

    #[tokio::test]
    async fn save_beyond_the_limit_takes_the_room_of_expired_images() {
        let store = MemoryStore::new(100);
        store.save(image(100, Duration::ZERO)).await.unwrap();
        store.save(image(100, Duration::from_secs(3600))).await.unwrap();
    }
}

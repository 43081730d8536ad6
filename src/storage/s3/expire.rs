use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use http::header;

use super::{
    Failed, Failure, Shared,
    delete::{BATCH, remove_images},
    key::Kind,
    list::AT_ONCE,
    read::Sidecar,
    xml::{Listed, Object},
};
use crate::{
    image::{Format, ImageId},
    storage::{Error, Expired, Walked},
};

/// Metadata of ours that belongs to no image is a leftover at this age; younger, it may be a save
/// under way. Saves give up at half of it.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// An image without readable metadata answers 404, and nobody knows when it is due. It goes at
/// this age, which leaves a day to look at what happened.
const DAMAGED_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Pages of keys that one cycle walks at most: the next one goes on.
const MOST_PAGES: u32 = 2000;

/// Pages behind the first image that is not due, looked through for leftovers in one cycle.
const SWEPT_PAGES: u32 = 4;

/// Removes what is due, oldest first, until the first image that is not due, in batches: images, then
/// their metadata.
///
/// Leftovers go as the walk comes by. Behind its end, where long-lived images may keep it from
/// coming for long, each cycle looks through a few pages of keys and the next one goes on there.
pub(super) async fn expire(shared: &Arc<Shared>, now: SystemTime) -> Result<Expired, Error> {
    let mut sweep_from = shared.sweep_from.lock().await;
    let mut cycle = Cycle { shared, now, now_utc: now.into(), done: Expired::default() };
    let walked = async {
        let end = cycle.walk().await?;
        let from = sweep_from.take().filter(|from| end.as_ref().is_some_and(|end| from > end)).or(end);
        *sweep_from = match from {
            Some(from) => cycle.sweep(from).await?,
            None => None,
        };
        Ok::<_, Failure>(())
    }
    .await;
    match walked {
        Ok(()) => Ok(cycle.done),
        Err(failure) => {
            let failed = shared.failed("remove what has expired from")(failure);
            // What was done is told; the next cycle goes on.
            if cycle.done == Expired::default() {
                return Err(Failed::into(failed));
            }
            tracing::warn!(%failed, "a cleaning cycle ended early");
            cycle.done.failed += 1;
            Ok(cycle.done)
        }
    }
}

/// What there is of one image.
#[derive(Debug, Default)]
struct Objects {
    images: Vec<(Format, SystemTime)>,
    sidecar: Option<SystemTime>,
}

struct Cycle<'a> {
    shared: &'a Shared,
    now: SystemTime,
    now_utc: DateTime<Utc>,
    done: Expired,
}

impl Cycle<'_> {
    /// Walks from the oldest; gives the key before the first image that is not due, if there is one.
    async fn walk(&mut self) -> Result<Option<String>, Failure> {
        let mut after = String::new();
        for _ in 0..MOST_PAGES {
            let page = self.shared.keys_after(&after).await?;
            self.probes(&page).await?;
            let (groups, next) = self.groups(page)?;
            if let Some(end) = self.page(groups).await? {
                return Ok(Some(end));
            }
            match next {
                Some(next) => after = next,
                None => return Ok(None),
            }
        }
        tracing::info!(pages = MOST_PAGES, "a cleaning cycle ends here; the next one goes on");
        Ok(None)
    }

    /// Removes what is due on a page; gives the key before the first image that is not.
    async fn page(&mut self, groups: BTreeMap<ImageId, Objects>) -> Result<Option<String>, Failure> {
        let shared = self.shared;
        let mut due = Vec::<Walked>::new();
        let mut end = None;
        let read = |(id, objects): (ImageId, Objects)| async move {
            let sidecar = match objects {
                Objects { ref images, sidecar: Some(_) } if !images.is_empty() => {
                    Sidecar::read(shared, id).await
                }
                _ => Ok(Sidecar::Absent),
            };
            (id, objects, sidecar)
        };
        {
            let mut images = std::pin::pin!(stream::iter(groups).map(read).buffered(AT_ONCE));
            while let Some((id, objects, sidecar)) = images.next().await {
                match sidecar? {
                    _ if objects.images.is_empty() => self.leftover(id, objects.sidecar).await?,
                    Sidecar::Whole(metadata) if !metadata.is_expired(self.now_utc) => {
                        end = Some(before(&shared.keys.sidecar(id)));
                        break;
                    }
                    Sidecar::Whole(metadata) if objects.images.iter().any(|(f, _)| *f == metadata.format) => {
                        due.push(Walked::from(&*metadata));
                    }
                    _ => self.damaged(id, &objects).await?,
                }
            }
        }
        for batch in due.chunks(BATCH) {
            remove_images(shared, batch, &mut self.done).await?;
        }
        Ok(end)
    }

    async fn damaged(&mut self, id: ImageId, objects: &Objects) -> Result<(), Failure> {
        for (format, modified) in &objects.images {
            if self.is_older(id, *modified, DAMAGED_AGE) {
                let key = self.shared.keys.image(id, *format);
                self.shared.remove(&key).await?;
                tracing::warn!(key, "removed a damaged image");
                self.done.swept += 1;
            }
        }
        Ok(())
    }

    /// Removes metadata that has no image.
    async fn leftover(&mut self, id: ImageId, modified: Option<SystemTime>) -> Result<(), Failure> {
        let Some(modified) = modified.filter(|modified| self.is_older(id, *modified, LEFTOVER_AGE)) else {
            return Ok(());
        };
        let _turn = self.shared.locks.turn(id).await;
        let key = self.shared.keys.sidecar(id);
        // It may have been taken over since it was listed.
        let Some(headers) = self.shared.head(&key).await? else { return Ok(()) };
        let written = headers.get(header::LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let written = written.and_then(|text| httpdate::parse_http_date(text).ok()).unwrap_or(self.now);
        if since(modified, written) <= Duration::from_secs(1) && written <= modified {
            self.shared.remove(&key).await?;
            self.done.swept += 1;
        }
        Ok(())
    }

    fn is_older(&self, id: ImageId, modified: SystemTime, age: Duration) -> bool {
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(id.created_millis());
        since(self.now, made) >= age && since(self.now, modified) >= age
    }

    /// Removes probes that were interrupted.
    async fn probes(&mut self, page: &Listed) -> Result<(), Failure> {
        for object in page.objects.iter().filter(|object| self.shared.keys.is_probe(&object.key)) {
            if since(self.now, object.modified) >= LEFTOVER_AGE {
                self.shared.remove(&object.key).await?;
                self.done.swept += 1;
            }
        }
        Ok(())
    }

    /// Looks for leftovers behind `from`; gives where to go on the next time.
    async fn sweep(&mut self, mut from: String) -> Result<Option<String>, Failure> {
        for _ in 0..SWEPT_PAGES {
            let page = self.shared.keys_after(&from).await?;
            let (groups, next) = self.groups(page)?;
            for (id, objects) in groups {
                if since(self.now, SystemTime::UNIX_EPOCH + Duration::from_millis(id.created_millis()))
                    < LEFTOVER_AGE
                {
                    return Ok(None);
                }
                if objects.images.is_empty() {
                    self.leftover(id, objects.sidecar).await?;
                } else if objects.sidecar.is_none() {
                    self.damaged(id, &objects).await?;
                }
            }
            match next {
                Some(next) => from = next,
                None => return Ok(None),
            }
        }
        Ok(Some(from))
    }

    /// The page by image, and the key after which the next one begins, so that no image is torn
    /// apart.
    fn groups(&self, page: Listed) -> Result<(BTreeMap<ImageId, Objects>, Option<String>), Failure> {
        let last = page.objects.last().map(|object| object.key.clone());
        let last = last.filter(|last| page.truncated && !self.shared.keys.is_behind_images(last));
        let mut groups = BTreeMap::<ImageId, Objects>::new();
        for Object { key, modified, .. } in page.objects {
            let Some((id, kind)) = self.shared.keys.parse(&key) else { continue };
            let of_id = groups.entry(id).or_default();
            match kind {
                Kind::Image(format) => of_id.images.push((format, modified)),
                Kind::Sidecar => of_id.sidecar = Some(modified),
            }
        }
        let Some(last) = last else { return Ok((groups, None)) };
        let Some((id, _)) = self.shared.keys.parse(&last) else { return Ok((groups, Some(last))) };
        groups.remove(&id);
        if groups.is_empty() {
            return Err(Failure::BadAnswer("a page of the listing holds less than one image".to_owned()));
        }
        Ok((groups, Some(before(&self.shared.keys.sidecar(id)))))
    }
}

/// Sorts before every key of the image whose sidecar this is, and after those of earlier ones.
fn before(sidecar: &str) -> String {
    sidecar.strip_suffix(".json").unwrap_or(sidecar).to_owned()
}

fn since(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

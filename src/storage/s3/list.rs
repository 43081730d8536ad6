use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use super::{
    Failure, Shared,
    key::Kind,
    read::Sidecar,
    request::{Operation, Request},
    xml::{Listed, listed},
};
use crate::{
    image::{ImageId, Metadata},
    storage::{Error, ListQuery, Page},
};

/// A page of 1000 keys, each of up to 1024 bytes and its escapes.
const MAX_LISTING: usize = 8 << 20;

/// Keys on a page of S3 at most (a rule of S3).
const KEYS: &str = "1000";

/// Metadata read at once.
pub(super) const AT_ONCE: usize = 16;

/// The first stretch of time that is looked at, in milliseconds: about 17.5 minutes.
const FIRST_WIDTH: u64 = 1 << 20;

/// Moments of ids lie below this: they have 48 bits.
const END: u64 = 1 << 48;

/// Pages of S3 that one page of ours may take.
const MOST_REQUESTS: u32 = 200;

impl Shared {
    /// All keys of ours behind `start_after`, ascending: one page of S3.
    pub(super) async fn keys_after(&self, start_after: &str) -> Result<Listed, Failure> {
        self.keys_below(self.keys.prefix(), start_after).await
    }

    /// The keys that start with `prefix`, behind `start_after`, ascending: one page of S3.
    ///
    /// Pages follow each other by their last key, not by the other side's token, so that a listing
    /// always advances.
    pub(super) async fn keys_below(&self, prefix: &str, start_after: &str) -> Result<Listed, Failure> {
        let mut query = vec![("list-type", "2"), ("max-keys", KEYS), ("prefix", prefix)];
        if !start_after.is_empty() {
            query.push(("start-after", start_after));
        }
        let url = self.endpoint.bucket(&query).ok_or(Failure::Signing)?;
        let answer = self.client.fetch(&Request::new(Operation::List, url), MAX_LISTING).await?;
        listed(&answer.body, prefix, start_after)
    }
}

/// A page of images, newest first.
///
/// S3 lists ascending only, but keys sort by time: stretches of time are listed backwards from the
/// newest one, wider where little is found and narrower where one page does not hold them. So a page
/// of ours costs a few listings, whatever is stored, and one small read for each image on it.
pub(super) async fn list(shared: &Shared, query: &ListQuery, now: DateTime<Utc>) -> Result<Page, Error> {
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let Some((low, mut high)) = moments(prefix).filter(|_| query.limit > 0) else {
        return Ok(Page::default());
    };
    if let Some(cursor) = query.cursor {
        high = high.min(cursor.created_millis() + 1);
    }
    let failed = |failure| -> Error { shared.failed("list the images in")(failure).into() };
    let wanted = |id: &ImageId| {
        query.cursor.is_none_or(|cursor| *id < cursor)
            && (prefix.is_empty() || id.to_string().starts_with(prefix))
    };

    let mut page = Page::default();
    let mut walk = Walk::new(shared, low, high, u64::try_from(now.timestamp_millis()).unwrap_or(0));
    while let Some(ids) = walk.next().await.map_err(failed)? {
        let found: Vec<_> = ids.iter().rev().copied().filter(wanted).collect();
        let mut sidecars = stream::iter(found).map(|id| Sidecar::read(shared, id)).buffered(AT_ONCE);
        while let Some(sidecar) = sidecars.next().await {
            if page.images.len() == query.limit {
                page.next = page.images.last().map(|last| last.image_id);
                return Ok(page);
            }
            if let Some(metadata) = listable(sidecar.map_err(failed)?, now) {
                page.images.push(metadata);
            }
        }
        walk.adapt(ids.len(), query.limit.saturating_sub(page.images.len()));
    }
    Ok(page)
}

fn listable(sidecar: Sidecar, now: DateTime<Utc>) -> Option<Metadata> {
    match sidecar {
        Sidecar::Whole(metadata) if !metadata.is_expired(now) => Some(*metadata),
        _ => None,
    }
}

/// The moments from which ids may start with `prefix`, end exclusive; `None` if none can.
fn moments(prefix: &str) -> Option<(u64, u64)> {
    let spelled = prefix.len() <= 36
        && prefix.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    let digits: String = prefix.chars().filter(|c| *c != '-').take(12).collect();
    let known = u32::try_from(digits.len()).ok().filter(|_| spelled)?;
    let value = if digits.is_empty() { 0 } else { u64::from_str_radix(&digits, 16).ok()? };
    let free = 48 - 4 * known;
    Some((value << free, (value + 1) << free))
}

/// Walks backwards through time.
struct Walk<'a> {
    shared: &'a Shared,
    low: u64,
    /// All from here on was looked at.
    high: u64,
    /// Where the newest images are expected; ids of the future may still come from other clocks.
    anchor: u64,
    width: u64,
    requests: u32,
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared, low: u64, high: u64, now: u64) -> Self {
        let anchor = high.min(now.saturating_add(FIRST_WIDTH).min(END));
        Self { shared, low, high, anchor, width: FIRST_WIDTH * 2, requests: 0 }
    }

    /// The images of the next stretch of time, ascending; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<ImageId>>, Failure> {
        if self.high <= self.low {
            return Ok(None);
        }
        loop {
            let start = self.anchor.min(self.high).saturating_sub(self.width).max(self.low);
            match self.stretch(start).await? {
                Ok(ids) => {
                    self.high = start;
                    return Ok(Some(ids));
                }
                // Too many for one page: the later part of it.
                Err(covered) => self.width = (covered * 3 / 4).max(1),
            }
        }
    }

    /// The images from `start` to `high`; or, if one page does not hold them, how much of the
    /// stretch it holds.
    async fn stretch(&mut self, start: u64) -> Result<Result<Vec<ImageId>, u64>, Failure> {
        let end = self.shared.keys.at(self.high);
        let (mut after, mut ids) = (self.shared.keys.at(start), Vec::new());
        loop {
            self.requests += 1;
            if self.requests > MOST_REQUESTS {
                return Err(Failure::BadAnswer(format!("{MOST_REQUESTS} listings do not come to an end")));
            }
            let listed = self.shared.keys_after(&after).await?;
            let mut seen = None;
            for object in &listed.objects {
                if object.key >= end {
                    break;
                }
                if let Some((id, kind)) = self.shared.keys.parse(&object.key) {
                    seen = Some(id.created_millis());
                    if matches!(kind, Kind::Image(_)) && ids.last() != Some(&id) {
                        ids.push(id);
                    }
                }
            }
            let last =
                listed.objects.last().map(|object| &object.key).filter(|key| listed.truncated && **key < end);
            let Some(last) = last else { return Ok(Ok(ids)) };
            let covered = seen.map_or(0, |seen| seen.saturating_sub(start));
            // More than a page within a moment, or keys that are not ours: page by page.
            if covered > 0 && self.high - start > 1 {
                return Ok(Err(covered));
            }
            after.clone_from(last);
        }
    }

    /// Chooses the next width by what was found and is still wanted.
    fn adapt(&mut self, found: usize, wanted: usize) {
        let factor = wanted.checked_div(found).map_or(16, |factor| factor.clamp(1, 16));
        self.width = self.width.saturating_mul(u64::try_from(factor).unwrap_or(1)).min(END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_a_prefix_hold_exactly_its_ids() {
        let id = ImageId::now();
        let text = id.to_string();
        for length in 0..=36 {
            let (low, high) = moments(&text[..length]).expect("a prefix of an id");
            assert!((low..high).contains(&id.created_millis()), "{length}");
        }
        assert_eq!(moments(""), Some((0, END)));
        assert_eq!(moments("0"), Some((0, 1 << 44)));
        let (low, high) = moments(&text[..13]).expect("a prefix");
        assert_eq!((low, high - low), (id.created_millis(), 1));
        for other in ["x", "A", "-", "0/", "01234567x", &text.replace('-', ""), &format!("{text}0")] {
            assert_eq!(moments(other), None, "{other}");
        }
    }
}

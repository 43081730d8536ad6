use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::{
    Shared, failed,
    folder::Folder,
    name::{Bucket, Kind, Name},
    read::Sidecar,
};
use crate::{
    image::ImageId,
    storage::{Error, ListQuery, Page},
};

/// A page of images, newest first: reads groups and buckets backwards, and only until the page is full.
pub(super) fn list(shared: &Shared, query: &ListQuery, now: DateTime<Utc>) -> Result<Page, Error> {
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let mut page = Page::default();
    if query.limit == 0 {
        return Ok(page);
    }
    let newest = query.cursor.map(Bucket::of);
    let mut groups = shared.groups()?;
    groups.retain(|group| group.may_hold(prefix) && newest.is_none_or(|newest| *group <= newest.group()));
    for group in groups.into_iter().rev() {
        let mut buckets = shared.buckets(group)?;
        buckets.retain(|bucket| bucket.may_hold(prefix) && newest.is_none_or(|newest| *bucket <= newest));
        for bucket in buckets.into_iter().rev() {
            let Some(folder) = shared.bucket(bucket)? else { continue };
            if fill(&mut page, &folder, query, now)? {
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// Adds the images of a bucket to a page; whether it is full, and there are more.
fn fill(page: &mut Page, folder: &Folder, query: &ListQuery, now: DateTime<Utc>) -> Result<bool, Error> {
    for id in images(folder, query.prefix.as_deref().unwrap_or_default(), query.cursor)? {
        if page.images.len() == query.limit {
            page.next = page.images.last().map(|last| last.image_id);
            return Ok(true);
        }
        match Sidecar::read(folder, id) {
            Ok(Sidecar::Whole(metadata)) if !metadata.is_expired(now) => page.images.push(*metadata),
            Ok(_) => {}
            Err(error) => return Err(failed("read the metadata of an image in", folder.path(), error)),
        }
    }
    Ok(false)
}

/// The images in a bucket that the query is about, newest first.
fn images(folder: &Folder, prefix: &str, cursor: Option<ImageId>) -> Result<Vec<ImageId>, Error> {
    let listed = || -> std::io::Result<Vec<ImageId>> {
        let mut ids = Vec::new();
        folder.each_name(|name| {
            // Half of the names, told without reading them.
            if name.to_bytes().ends_with(b".json") {
                return Ok(());
            }
            if let Some(Name { id, kind: Kind::Image(_) }) = Name::parse(name.to_bytes())
                && cursor.is_none_or(|cursor| id < cursor)
                && (prefix.is_empty() || id.to_string().starts_with(prefix))
            {
                ids.push(id);
            }
            Ok(())
        })?;
        Ok(ids)
    };
    let mut ids = listed().map_err(|error| failed("list", folder.path(), error))?;
    ids.sort_unstable_by_key(|id| Reverse(*id));
    ids.dedup();
    Ok(ids)
}

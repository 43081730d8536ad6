//! What every image store must do. A backend is done when it passes.
//!
//! The contracts know nothing of how a store keeps things. Time is made, not waited for: ids are
//! made with a creation time, and images with an expiry.

#![expect(clippy::unwrap_used, reason = "a contract fails by panicking")]

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{TryStreamExt, future::join_all};
use mcp_image_server::{
    image::{Format, Generation, ImageId, Metadata},
    storage::{Error, Expired, ImageStore, ListQuery, NewImage, Opened, Walked},
};

/// A store under test: `http://images.example` is its public base URL.
pub(crate) type Store = Arc<dyn ImageStore>;

/// One hour.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Runs every contract on a new store each. `$new` is an expression for a `(Store, guard)`; the
/// guard keeps what the store needs alive.
macro_rules! conforms {
    ($room:ident, $new:expr) => {
        $crate::store_conformance::conforms!(@each $room, $new,
            image_saved_opens_byte_equal
            image_of_every_format_keeps_its_metadata
            image_of_several_megabytes_streams_whole
            range_streams_exactly_its_bytes
            range_beyond_the_end_ends_with_an_error
            stream_dropped_early_leaves_the_store_usable
            save_of_taken_id_is_refused_and_the_first_stays
            save_of_taken_id_in_another_format_is_refused
            save_with_wrong_length_is_refused_and_leaves_nothing
            saves_of_one_id_at_once_let_one_through
            unknown_id_is_not_found
            deleted_id_is_not_found_and_deleted_twice_is_false
            deletes_of_one_id_at_once_let_one_through
            expired_id_is_not_found_before_the_cleaner_comes
            reader_opened_before_delete_finishes
            reader_opened_before_expire_finishes
            unicode_in_prompts_is_kept
            saves_and_deletes_at_once_do_not_mix
            listing_is_newest_first_and_leaves_out_the_expired
            listing_pages_by_cursor_without_gap_or_repeat
            listing_by_prefix_finds_exactly_those
            listing_of_nothing_is_empty
            expire_removes_exactly_what_is_due
            expire_stops_at_the_first_that_is_not_due
            expire_by_two_at_once_removes_each_once
            check_passes_and_leaves_no_image
        );
    };
    (@each $room:ident, $new:expr, $($contract:ident)*) => {
        mod $room {
            use super::*;
            $(
                #[tokio::test]
                async fn $contract() {
                    let (store, _guard) = $new;
                    $crate::store_conformance::$contract(store).await;
                }
            )*
        }
    };
}
pub(crate) use conforms;

/// Runs the contracts of what the cleaner and operators need besides, as [`conforms`] does.
macro_rules! conforms_to_upkeep {
    ($room:ident, $new:expr) => {
        $crate::store_conformance::conforms!(@each $room, $new,
            walk_comes_by_every_image_oldest_first
            remove_takes_images_whatever_their_expiry
            removes_of_the_same_images_at_once_count_each_once
            inspect_tells_of_expired_images_too
        );
    };
}
pub(crate) use conforms_to_upkeep;

/// An image of `length` bytes, no two alike, made `age` ago with `life` from then on.
pub(crate) fn image(length: usize, age: Duration, life: Duration) -> NewImage {
    let created = SystemTime::now() - age;
    let image_id = ImageId::at(created);
    let seed = image_id.to_string();
    let mut bytes: Vec<u8> = seed.bytes().cycle().take(length).collect();
    for (block, number) in bytes.chunks_mut(4096).zip((0..=u8::MAX).cycle()) {
        block[0] ^= number;
    }
    let bytes = Bytes::from(bytes);
    let metadata = Metadata {
        image_id,
        format: Format::Png,
        width: 512,
        height: 384,
        size_bytes: bytes.len() as u64,
        blake3: "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8".to_owned(),
        created_at: created.into(),
        expires_at: (created + life).into(),
        thumbhash: None,
        generation: Generation {
            prompt: "a lighthouse at dusk".to_owned(),
            negative_prompt: None,
            num_inference_steps: 50,
            guidance_scale: 7.5,
            seed: Some(7),
            model: "stable-diffusion".to_owned(),
            predictor: "embedded".to_owned(),
            generation_seconds: 0.25,
        },
    };
    NewImage { bytes, metadata }
}

/// A fresh image with an hour to live.
pub(crate) fn fresh(length: usize) -> NewImage {
    image(length, Duration::ZERO, HOUR)
}

/// Saves an image and returns it.
pub(crate) async fn saved(store: &Store, image: NewImage) -> NewImage {
    store.save(image.clone()).await.expect("a save");
    image
}

/// Streams a range of an opened image to its end.
pub(crate) async fn read(opened: Opened, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let chunks: Vec<Bytes> = opened.content.stream(range).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// Opens an image and compares all of it.
pub(crate) async fn assert_whole(store: &Store, image: &NewImage) {
    let opened = store.open(image.metadata.image_id).await.expect("an image");
    assert_eq!(opened.metadata, image.metadata);
    let bytes = read(opened, 0..image.metadata.size_bytes).await.expect("its bytes");
    assert!(bytes == image.bytes, "the bytes of {} differ", image.metadata.image_id);
}

/// Whether open and metadata agree that there is no such image.
pub(crate) async fn assert_absent(store: &Store, id: ImageId) {
    let opened = store.open(id).await;
    assert!(matches!(opened, Err(Error::NotFound)), "{opened:?}");
    let metadata = store.metadata(id).await;
    assert!(matches!(metadata, Err(Error::NotFound)), "{metadata:?}");
}

/// The ids of a listing from its first page to its last.
pub(crate) async fn list_all(store: &Store, prefix: Option<&str>, limit: usize) -> Vec<ImageId> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let query = ListQuery { prefix: prefix.map(str::to_owned), cursor, limit };
        let page = store.list(query).await.expect("a page");
        assert!(page.images.len() <= limit);
        assert!(page.next.is_none() || page.images.len() == limit, "a page that is not full has a next one");
        ids.extend(page.images.iter().map(|metadata| metadata.image_id));
        assert!(ids.len() < 10_000, "the listing does not end");
        match page.next {
            Some(next) => cursor = Some(next),
            None => return ids,
        }
    }
}

fn id_of(image: &NewImage) -> ImageId {
    image.metadata.image_id
}

pub(crate) async fn image_saved_opens_byte_equal(store: Store) {
    for length in [1, 4095, 400_000] {
        let image = saved(&store, fresh(length)).await;
        assert_whole(&store, &image).await;
        assert_eq!(store.metadata(id_of(&image)).await.unwrap(), image.metadata);
    }
}

pub(crate) async fn image_of_every_format_keeps_its_metadata(store: Store) {
    for format in Format::ALL {
        let mut image = fresh(100);
        image.metadata.format = format;
        image.metadata.generation.seed = None;
        image.metadata.generation.negative_prompt = Some("blurry".to_owned());
        let image = saved(&store, image).await;
        assert_whole(&store, &image).await;
    }
}

pub(crate) async fn image_of_several_megabytes_streams_whole(store: Store) {
    let image = saved(&store, fresh(5_000_001)).await;
    assert_whole(&store, &image).await;
}

pub(crate) async fn range_streams_exactly_its_bytes(store: Store) {
    let length = 700_000;
    let image = saved(&store, fresh(length)).await;
    for range in [0..1, 0..700_000, 1..2, 262_143..262_145, 262_144..524_288, 699_999..700_000, 5..5, 0..0] {
        let opened = store.open(id_of(&image)).await.unwrap();
        let bytes = read(opened, range.start as u64..range.end as u64).await.unwrap();
        assert!(bytes == image.bytes[range.clone()], "{range:?}");
    }
}

pub(crate) async fn range_beyond_the_end_ends_with_an_error(store: Store) {
    let image = saved(&store, fresh(1000)).await;
    for range in [0..1001, 1000..1001, 5000..5001] {
        let opened = store.open(id_of(&image)).await.unwrap();
        let result = read(opened, range.clone()).await;
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{range:?}: {result:?}");
    }
}

pub(crate) async fn stream_dropped_early_leaves_the_store_usable(store: Store) {
    let image = saved(&store, fresh(2_000_000)).await;
    for _ in 0..20 {
        let opened = store.open(id_of(&image)).await.unwrap();
        let mut stream = opened.content.stream(0..2_000_000).await.unwrap();
        assert!(!stream.try_next().await.unwrap().unwrap().is_empty());
    }
    assert_whole(&store, &image).await;
}

pub(crate) async fn save_of_taken_id_is_refused_and_the_first_stays(store: Store) {
    let first = saved(&store, fresh(1000)).await;
    let mut second = fresh(2000);
    second.metadata.image_id = id_of(&first);
    let result = store.save(second).await;
    assert!(matches!(result, Err(Error::AlreadyExists)), "{result:?}");
    assert_whole(&store, &first).await;
}

pub(crate) async fn save_of_taken_id_in_another_format_is_refused(store: Store) {
    let first = saved(&store, fresh(1000)).await;
    let mut second = fresh(2000);
    second.metadata.image_id = id_of(&first);
    second.metadata.format = Format::WebP;
    let result = store.save(second).await;
    assert!(matches!(result, Err(Error::AlreadyExists)), "{result:?}");
    assert_whole(&store, &first).await;
    assert_eq!(list_all(&store, None, 10).await, [id_of(&first)]);
}

pub(crate) async fn save_with_wrong_length_is_refused_and_leaves_nothing(store: Store) {
    let mut wrong = fresh(1000);
    wrong.metadata.size_bytes = 999;
    let result = store.save(wrong.clone()).await;
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    assert_absent(&store, id_of(&wrong)).await;
    wrong.metadata.size_bytes = 1000;
    assert_whole(&store, &saved(&store, wrong).await).await;
}

pub(crate) async fn saves_of_one_id_at_once_let_one_through(store: Store) {
    let id = id_of(&fresh(1));
    let contenders: Vec<_> = (1..=16)
        .map(|i| {
            let mut image = fresh(10_000 + i);
            image.metadata.image_id = id;
            image.metadata.format = Format::ALL[i % 3];
            image
        })
        .collect();
    let results = join_all(contenders.iter().map(|image| store.save(image.clone()))).await;
    let winners: Vec<_> = contenders.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::AlreadyExists))), "{results:?}");
    assert_whole(&store, winners[0].0).await;
}

pub(crate) async fn unknown_id_is_not_found(store: Store) {
    let neighbour = saved(&store, fresh(10)).await;
    for id in [ImageId::now(), ImageId::at(SystemTime::UNIX_EPOCH), ImageId::at(SystemTime::now() + HOUR)] {
        assert_absent(&store, id).await;
        assert!(!store.delete(id).await.unwrap());
    }
    assert_whole(&store, &neighbour).await;
}

pub(crate) async fn deleted_id_is_not_found_and_deleted_twice_is_false(store: Store) {
    let image = saved(&store, fresh(1000)).await;
    let neighbour = saved(&store, fresh(1000)).await;
    assert!(store.delete(id_of(&image)).await.unwrap());
    assert!(!store.delete(id_of(&image)).await.unwrap());
    assert_absent(&store, id_of(&image)).await;
    assert_eq!(list_all(&store, None, 10).await, [id_of(&neighbour)]);
    assert_whole(&store, &neighbour).await;
}

pub(crate) async fn deletes_of_one_id_at_once_let_one_through(store: Store) {
    for _ in 0..8 {
        let image = saved(&store, fresh(1000)).await;
        let results = join_all((0..8).map(|_| store.delete(id_of(&image)))).await;
        let deleted = results.into_iter().filter(|result| *result.as_ref().unwrap()).count();
        assert_eq!(deleted, 1);
        assert_absent(&store, id_of(&image)).await;
    }
}

pub(crate) async fn expired_id_is_not_found_before_the_cleaner_comes(store: Store) {
    let expired = saved(&store, image(1000, HOUR * 2, HOUR)).await;
    let just_expired = saved(&store, image(1000, HOUR, HOUR)).await;
    for image in [&expired, &just_expired] {
        assert_absent(&store, id_of(image)).await;
        assert!(!store.delete(id_of(image)).await.unwrap());
    }
    assert_eq!(list_all(&store, None, 10).await, []);
}

pub(crate) async fn reader_opened_before_delete_finishes(store: Store) {
    let image = saved(&store, fresh(1_000_000)).await;
    let opened = store.open(id_of(&image)).await.unwrap();
    let mut reader = store.open(id_of(&image)).await.unwrap().content.stream(0..1_000_000).await.unwrap();
    let mut bytes = reader.try_next().await.unwrap().unwrap().to_vec();
    assert!(store.delete(id_of(&image)).await.unwrap());
    while let Some(chunk) = reader.try_next().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert!(bytes == image.bytes);
    assert!(read(opened, 0..1_000_000).await.unwrap() == image.bytes);
}

pub(crate) async fn reader_opened_before_expire_finishes(store: Store) {
    let image = saved(&store, fresh(1_000_000)).await;
    let opened = store.open(id_of(&image)).await.unwrap();
    let expired = store.expire(SystemTime::now() + HOUR * 2).await.unwrap();
    assert_eq!(expired.removed, 1);
    assert_absent(&store, id_of(&image)).await;
    assert!(read(opened, 0..1_000_000).await.unwrap() == image.bytes);
}

pub(crate) async fn unicode_in_prompts_is_kept(store: Store) {
    let every_plane: String = (0..=char::MAX as u32).step_by(211).filter_map(char::from_u32).collect();
    let prompts = [
        "雪の中の灯台 🗼".to_owned(),
        "e\u{301} \u{202e}drawkcab\u{202c} \u{feff}\u{0}\u{1b}[31m\u{7f}\u{2028}".to_owned(),
        "\"quotes\" \\ back/slash\r\n\ttabs, {\"image_id\": \"x\"}".to_owned(),
        "👩‍👩‍👧‍👦".repeat(1400),
        "\u{1}".repeat(10_000),
        every_plane,
    ];
    for prompt in prompts {
        let mut image = fresh(10);
        image.metadata.generation.negative_prompt = Some(prompt.chars().rev().collect());
        image.metadata.generation.prompt = prompt;
        let image = saved(&store, image).await;
        assert_whole(&store, &image).await;
        let page = store.list(ListQuery { prefix: None, cursor: None, limit: 1 }).await.unwrap();
        assert_eq!(page.images.len(), 1);
    }
}

pub(crate) async fn saves_and_deletes_at_once_do_not_mix(store: Store) {
    let images: Vec<_> = (0..64).map(|i| fresh(20_000 + i)).collect();
    let work = images.iter().enumerate().map(|(i, image)| {
        let store = Arc::clone(&store);
        async move {
            saved(&store, image.clone()).await;
            if i % 2 == 0 {
                assert!(store.delete(id_of(image)).await.unwrap());
            } else {
                assert_whole(&store, image).await;
            }
        }
    });
    join_all(work).await;
    let kept: HashSet<_> = images.iter().skip(1).step_by(2).map(id_of).collect();
    let listed = list_all(&store, None, 100).await;
    assert_eq!(listed.len(), kept.len());
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), kept);
}

/// Saves images over a day, some of them expired, and returns the others newest first.
async fn day_of_images(store: &Store) -> Vec<ImageId> {
    let mut alive = Vec::new();
    for i in 0..48_u32 {
        // Two of them share a bucket of time now and then.
        let age = Duration::from_secs(60) + HOUR * (i / 2) + Duration::from_secs(u64::from(i % 2));
        let expired = i % 5 == 0;
        let life = if expired { Duration::from_secs(30) } else { HOUR * 100 };
        let image = saved(store, image(100, age, life)).await;
        if !expired {
            alive.push(id_of(&image));
        }
    }
    alive.sort_by_key(|id| std::cmp::Reverse(*id));
    alive
}

pub(crate) async fn listing_is_newest_first_and_leaves_out_the_expired(store: Store) {
    let expected = day_of_images(&store).await;
    assert_eq!(list_all(&store, None, 1000).await, expected);
}

pub(crate) async fn listing_pages_by_cursor_without_gap_or_repeat(store: Store) {
    let expected = day_of_images(&store).await;
    for limit in [1, 2, 7, expected.len() - 1, expected.len(), expected.len() + 1] {
        assert_eq!(list_all(&store, None, limit).await, expected, "limit {limit}");
    }
    // The cursor need not be there any more.
    assert!(store.delete(expected[9]).await.unwrap());
    let query = ListQuery { prefix: None, cursor: Some(expected[9]), limit: 5 };
    let page = store.list(query).await.unwrap();
    let ids: Vec<_> = page.images.iter().map(|metadata| metadata.image_id).collect();
    assert_eq!(ids, expected[10..15]);
    assert_eq!(page.next, Some(expected[14]));
}

pub(crate) async fn listing_by_prefix_finds_exactly_those(store: Store) {
    let all = day_of_images(&store).await;
    let some = all[11].to_string();
    for digits in [1, 4, 6, 7, 8, 9, 13, 14, 23, 36] {
        let prefix = &some[..digits];
        let expected: Vec<_> = all.iter().copied().filter(|id| id.to_string().starts_with(prefix)).collect();
        assert!(!expected.is_empty());
        for limit in [1, 100] {
            assert_eq!(list_all(&store, Some(prefix), limit).await, expected, "{prefix}, limit {limit}");
        }
    }
    assert_eq!(list_all(&store, Some(""), 100).await, all);
    for prefix in ["f", "zzz", "../", "0/", &some.to_uppercase(), &format!("{some}.png"), "\u{0}", "✗"] {
        assert_eq!(list_all(&store, Some(prefix), 100).await, [], "{prefix}");
    }
}

pub(crate) async fn listing_of_nothing_is_empty(store: Store) {
    assert_eq!(list_all(&store, None, 10).await, []);
    let image = saved(&store, fresh(10)).await;
    let none = store.list(ListQuery { prefix: None, cursor: None, limit: 0 }).await.unwrap();
    assert!(none.images.is_empty() && none.next.is_none());
    let oldest = ListQuery { prefix: None, cursor: Some(id_of(&image)), limit: 10 };
    assert!(store.list(oldest).await.unwrap().images.is_empty());
}

pub(crate) async fn expire_removes_exactly_what_is_due(store: Store) {
    let due: Vec<_> = [HOUR * 30, HOUR * 3, HOUR * 2, HOUR * 2 - Duration::from_secs(1)]
        .map(|age| image(1000, age, HOUR))
        .into();
    let kept: Vec<_> = [HOUR / 2, Duration::from_secs(1)].map(|age| image(1000, age, HOUR)).into();
    for image in due.iter().chain(&kept) {
        saved(&store, image.clone()).await;
    }
    let expired = store.expire(SystemTime::now()).await.unwrap();
    let ids: BTreeSet<_> = expired.ids.iter().copied().collect();
    assert_eq!(ids, due.iter().map(id_of).collect());
    assert_eq!((expired.removed, expired.removed_bytes, expired.swept, expired.failed), (4, 4000, 0, 0));
    for image in &kept {
        assert_whole(&store, image).await;
    }
    // What was removed is gone: its id is free.
    for image in due {
        saved(&store, image).await;
    }
    assert_eq!(store.expire(SystemTime::now()).await.unwrap().removed, 4);
    assert_eq!(store.expire(SystemTime::now()).await.unwrap(), Expired::default());
    // And at its time, the rest.
    assert_eq!(store.expire(SystemTime::now() + HOUR).await.unwrap().removed, 2);
}

pub(crate) async fn expire_stops_at_the_first_that_is_not_due(store: Store) {
    let first = saved(&store, image(10, HOUR * 6, HOUR)).await;
    let long_lived = saved(&store, image(10, HOUR * 5, HOUR * 24)).await;
    let behind = saved(&store, image(10, HOUR * 4, HOUR)).await;
    assert_eq!(store.expire(SystemTime::now()).await.unwrap().removed, 1);
    assert_absent(&store, id_of(&first)).await;
    assert_absent(&store, id_of(&behind)).await;
    assert_whole(&store, &long_lived).await;
    assert_eq!(store.expire(SystemTime::now() + HOUR * 20).await.unwrap().removed, 2);
}

pub(crate) async fn expire_by_two_at_once_removes_each_once(store: Store) {
    for i in 0..40 {
        saved(&store, image(10, HOUR * 5 + Duration::from_secs(i * 60), HOUR)).await;
    }
    let now = SystemTime::now();
    let (one, other) = tokio::join!(store.expire(now), store.expire(now));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.removed + other.removed, 40);
    assert_eq!(one.failed + other.failed, 0);
}

pub(crate) async fn check_passes_and_leaves_no_image(store: Store) {
    store.check().await.unwrap();
    let results = join_all((0..8).map(|_| store.check())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(list_all(&store, None, 10).await, []);
}

/// What a walk comes by, from its beginning to its end.
pub(crate) async fn walk_all(store: &Store) -> Vec<Walked> {
    store.walk().try_collect().await.expect("a walk")
}

pub(crate) async fn walk_comes_by_every_image_oldest_first(store: Store) {
    assert_eq!(walk_all(&store).await, []);
    let mut expected = Vec::new();
    for i in 0..30_u32 {
        // Out of order, two in a bucket of time now and then, every third expired.
        let age = HOUR / 2 * ((i * 7) % 30) + Duration::from_secs(u64::from(i));
        let life = if i % 3 == 0 { Duration::from_secs(1) } else { HOUR * 100 };
        let mut image = image(100 + i as usize, age, life);
        image.metadata.format = Format::ALL[i as usize % 3];
        let Metadata { image_id, format, size_bytes, .. } = saved(&store, image).await.metadata;
        expected.push(Walked { image_id, format, size_bytes });
    }
    expected.sort_by_key(|walked| walked.image_id);
    assert_eq!(walk_all(&store).await, expected);
    let first = store.walk().try_next().await.expect("a walk");
    assert_eq!(first, Some(expected[0]));
}

pub(crate) async fn remove_takes_images_whatever_their_expiry(store: Store) {
    let gone = [
        saved(&store, image(1000, HOUR * 30, HOUR)).await,
        saved(&store, image(1000, HOUR * 20, HOUR * 100)).await,
        saved(&store, fresh(1000)).await,
    ];
    let kept = saved(&store, fresh(1000)).await;
    let walked: Vec<_> =
        walk_all(&store).await.into_iter().filter(|walked| walked.image_id != id_of(&kept)).collect();
    let removed = store.remove(&walked).await.unwrap();
    assert_eq!((removed.removed, removed.removed_bytes, removed.failed), (3, 3000, 0));
    assert_eq!(removed.ids, walked.iter().map(|walked| walked.image_id).collect::<Vec<_>>());
    assert_eq!(store.remove(&walked).await.unwrap(), Expired::default());
    assert_eq!(store.remove(&[]).await.unwrap(), Expired::default());
    for image in gone {
        assert_absent(&store, id_of(&image)).await;
        // Nothing of it is left: its id is free.
        saved(&store, image).await;
    }
    assert_whole(&store, &kept).await;
}

pub(crate) async fn removes_of_the_same_images_at_once_count_each_once(store: Store) {
    for i in 0..40 {
        saved(&store, image(10, HOUR + Duration::from_secs(i * 60), HOUR * 9)).await;
    }
    let walked = walk_all(&store).await;
    let (one, other) = tokio::join!(store.remove(&walked), store.remove(&walked));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.removed + other.removed, one.failed + other.failed), (40, 0));
    assert_eq!(walk_all(&store).await, []);
}

pub(crate) async fn inspect_tells_of_expired_images_too(store: Store) {
    for image in [image(10, HOUR * 2, HOUR), fresh(10)] {
        let id = id_of(&saved(&store, image.clone()).await);
        assert_eq!(store.inspect(id).await.unwrap(), image.metadata);
    }
    let unknown = store.inspect(ImageId::now()).await;
    assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");
}

//! Images that are held open: with nothing kept in memory, but where a test says so.

use std::{sync::atomic::Ordering, time::Duration};

use chrono::{TimeDelta, Utc};
use layers::send_file::FileSender;

use super::*;
use crate::{
    images::{open_images::MOST_OPEN, originals::ASK_AGAIN},
    storage::Removals,
};

/// Delivery from a store whose open images can have several readers.
fn sharing() -> Fixture {
    let fixture = Fixture::new();
    fixture.store.shares.store(true, Ordering::SeqCst);
    fixture
}

fn large() -> Vec<u8> {
    (0..1000_u16).map(|number| (number % 251).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn image_asked_for_again_is_not_opened_again() {
    let fixture = sharing();
    for bytes in [BYTES.to_vec(), large()] {
        let path = format!("/images/{}", fixture.store.put(Format::Png, bytes.clone()).image_id);
        let first = fixture.get(&path, &[]).await;
        let calls = fixture.calls();
        let again = fixture.get(&path, &[]).await;
        assert_eq!((again.status, &again.body[..]), (first.status, &bytes[..]));
        assert_eq!(again.headers.len(), first.headers.len());
        assert_eq!(fixture.get(&path, &[("range", "bytes=2-5")]).await.body, bytes[2..6]);
        assert_eq!(fixture.get(&path, &[("if-none-match", "*")]).await.status, 304);
        assert_eq!(fixture.send(Method::HEAD, &path, &[]).await.status, 200);
        assert_eq!(fixture.calls(), calls);
    }
}

#[tokio::test]
async fn deleted_image_is_not_served_from_an_open_file() {
    let fixture = sharing();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    assert_eq!(fixture.send(Method::DELETE, &path, &[("x-admin", "1")]).await.status, 204);
    assert_eq!(fixture.store.opened(), 0);
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
}

#[tokio::test(start_paused = true)]
async fn image_that_another_replica_deleted_is_gone_within_the_interval() {
    let fixture = sharing();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let path = format!("/images/{id}");
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    fixture.store.take(id);
    tokio::time::advance(ASK_AGAIN).await;
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
    assert_eq!(fixture.store.opened(), 0);
}

#[tokio::test]
async fn expired_image_is_not_served_from_an_open_file() {
    let fixture = sharing();
    let soon = Utc::now() + TimeDelta::milliseconds(300);
    let image = fixture.store.put_with(Format::Png, BYTES, |image| image.expires_at = soon);
    let path = format!("/images/{}", image.image_id);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    while Utc::now() < soon {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
    assert_eq!(fixture.store.opened(), 0);
}

#[tokio::test]
async fn image_that_the_cleaner_removed_is_closed() {
    let fixture = sharing();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    fixture.get(&format!("/images/{id}"), &[]).await;
    assert_eq!(fixture.store.opened(), 1);
    fixture.images.delivery.expired(&[id]);
    assert_eq!(fixture.store.opened(), 0);
}

#[tokio::test]
async fn no_more_images_are_held_open_than_allowed() {
    let fixture = sharing();
    for _ in 0..MOST_OPEN * 2 {
        let id = fixture.store.put(Format::Png, BYTES).image_id;
        assert_eq!(fixture.get(&format!("/images/{id}"), &[]).await.body, BYTES);
    }
    let open = fixture.store.opened();
    assert!((1..=MOST_OPEN).contains(&open), "{open}");
}

#[tokio::test(start_paused = true)]
async fn image_that_nobody_asks_for_is_closed() {
    let fixture = sharing();
    let path = |id| format!("/images/{id}");
    let idle = fixture.store.put(Format::Png, BYTES).image_id;
    let busy = fixture.store.put(Format::Png, BYTES).image_id;
    fixture.get(&path(idle), &[]).await;
    for _ in 0..3 {
        fixture.get(&path(busy), &[]).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    fixture.get(&path(busy), &[]).await;
    assert_eq!(fixture.store.opened(), 1);
}

#[tokio::test]
async fn image_that_breaks_off_is_opened_anew() {
    let fixture = sharing();
    *fixture.store.break_after.lock().expect("no panic") = Some(1);
    let path = format!("/images/{}", fixture.store.put(Format::Png, large()).image_id);
    let response = fixture.response(Method::GET, &path, &[]).await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(fixture.store.opened(), 0);
    *fixture.store.break_after.lock().expect("no panic") = None;
    assert_eq!(fixture.get(&path, &[]).await.body, large());
}

#[tokio::test]
async fn middling_images_come_from_their_files_to_who_sends_files_and_all_others_from_memory() {
    let fixture = Fixture::with(&Config { cache_bytes: 64 << 20, ..caching() });
    fixture.store.shares.store(true, Ordering::SeqCst);
    let chunks = || fixture.store.chunks.load(Ordering::SeqCst);
    for (length, from_file) in [(1000, false), (70_000, true), ((2 << 20) + 1, false)] {
        let path = format!("/images/{}", fixture.store.put(Format::Png, vec![7; length]).image_id);
        for _ in 0..2 {
            fixture.get(&path, &[]).await;
        }
        for sends in [true, false] {
            let before = chunks();
            let mut request = Request::get(&path).body(Empty::<Bytes>::new()).expect("a request");
            if sends {
                request.extensions_mut().insert(FileSender::default());
            }
            let Ok(response) = fixture.images.clone().oneshot(request).await;
            assert_eq!(Answer::of(response).await.body.len(), length);
            assert_eq!(chunks() > before, from_file && sends, "{length}, {sends}");
        }
    }
}

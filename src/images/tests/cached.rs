use std::{sync::atomic::Ordering, time::Duration};

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;

use super::*;
use crate::images::originals::ASK_AGAIN;

#[tokio::test]
async fn image_asked_for_again_does_not_meet_the_store() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}.png", fixture.store.put(Format::Png, BYTES).image_id);
    let first = fixture.get(&path, &[]).await;
    let calls = fixture.calls();
    assert_eq!(calls, 1, "opened once");
    for fields in [&[][..], &[("range", "bytes=2-5")], &[("if-none-match", "*")]] {
        fixture.get(&path, fields).await;
        fixture.send(Method::HEAD, &path, fields).await;
    }
    let again = fixture.get(&path, &[]).await;
    assert_eq!((again.status, again.body), (first.status, first.body));
    assert_eq!(again.headers.len(), first.headers.len());
    assert_eq!(fixture.get(&path, &[("range", "bytes=2-5")]).await.body, "cdef");
    assert_eq!(fixture.calls(), calls);
}

#[tokio::test]
async fn first_requests_at_once_load_the_image_once() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    let answers = join_all((0..64).map(|_| fixture.get(&path, &[]))).await;
    assert!(answers.iter().all(|answer| answer.body == BYTES));
    assert_eq!(fixture.calls(), 1);
    assert_eq!(fixture.store.chunks.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn absent_image_asked_for_at_once_is_404_for_all_and_is_not_remembered() {
    let fixture = Fixture::with(&caching());
    let id = ImageId::now();
    let path = format!("/images/{id}");
    for answer in join_all((0..8).map(|_| fixture.get(&path, &[]))).await {
        answer.assert_problem(404, "not-found");
    }
    fixture.store.put_with(Format::Png, BYTES, |image| image.image_id = id);
    assert_eq!(fixture.get(&path, &[]).await.body, BYTES);
}

#[tokio::test]
async fn large_image_is_streamed_and_opened_once_a_request() {
    let fixture = Fixture::with(&caching());
    let bytes = vec![7; (4 << 20) + 1];
    let path = format!("/images/{}", fixture.store.put(Format::Png, bytes).image_id);
    for request in 1..4 {
        let answer = fixture.get(&path, &[]).await;
        assert_eq!(answer.body.len(), (4 << 20) + 1);
        assert_eq!(fixture.calls(), request);
    }
    assert_eq!(fixture.send(Method::HEAD, &path, &[]).await.header("content-length"), "4194305");
    assert_eq!(fixture.calls(), 3, "what is known of it is in memory all the same");
}

#[tokio::test]
async fn image_of_more_than_two_mebibytes_is_kept_when_it_is_asked_for_again() {
    let fixture = Fixture::with(&caching());
    let bytes = vec![7; (2 << 20) + 1];
    let path = format!("/images/{}", fixture.store.put(Format::Png, bytes.clone()).image_id);
    for calls in [1, 2, 2] {
        assert_eq!(fixture.get(&path, &[]).await.body, bytes);
        assert_eq!(fixture.calls(), calls);
    }
}

#[tokio::test]
async fn deleted_image_is_gone_from_memory_at_once() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    let deleted = fixture.send(Method::DELETE, &path, &[("x-admin", "1")]).await;
    assert_eq!(deleted.status, 204);
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
    fixture.send(Method::HEAD, &path, &[]).await;
}

#[tokio::test]
async fn load_that_a_delete_overtakes_is_not_kept() {
    let fixture = Fixture::with(&caching());
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let path = format!("/images/{id}");
    let mut loading = Box::pin(fixture.get(&path, &[]));
    assert!(futures_util::poll!(&mut loading).is_pending());
    assert_eq!(fixture.send(Method::DELETE, &path, &[("x-admin", "1")]).await.status, 204);
    fixture.store.put_with(Format::Png, BYTES, |image| image.image_id = id);
    assert_eq!(loading.await.status, 200);
    fixture.store.take(id);
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
}

#[tokio::test(start_paused = true)]
async fn image_that_another_replica_deleted_is_gone_within_the_interval() {
    let fixture = Fixture::with(&caching());
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let path = format!("/images/{id}");
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    tokio::time::advance(ASK_AGAIN - Duration::from_millis(1)).await;
    fixture.store.take(id);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    tokio::time::advance(Duration::from_millis(1)).await;
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
}

#[tokio::test(start_paused = true)]
async fn store_that_is_down_is_not_felt_by_what_is_in_memory() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    fixture.store.fail_with(|| storage::Error::Unavailable("down".into()));
    tokio::time::advance(ASK_AGAIN * 2).await;
    let calls = fixture.calls();
    assert_eq!(fixture.get(&path, &[]).await.body, BYTES);
    assert_eq!(fixture.get(&path, &[]).await.body, BYTES);
    assert_eq!(fixture.calls(), calls + 1, "asked once in the interval");
    let other = fixture.store.put(Format::Png, BYTES).image_id;
    fixture.get(&format!("/images/{other}"), &[]).await.assert_problem(503, "storage-unavailable");
    fixture.store.recover();
    assert_eq!(fixture.get(&format!("/images/{other}"), &[]).await.status, 200);
}

#[tokio::test]
async fn expired_image_is_not_served_from_memory() {
    let fixture = Fixture::with(&caching());
    let soon = Utc::now() + TimeDelta::milliseconds(300);
    let path = format!(
        "/images/{}",
        fixture.store.put_with(Format::Png, BYTES, |image| image.expires_at = soon).image_id
    );
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    while Utc::now() < soon {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let calls = fixture.calls();
    fixture.get(&path, &[]).await.assert_problem(404, "not-found");
    assert_eq!(fixture.calls(), calls, "it is known to be over without the store");
}

#[tokio::test]
async fn stream_that_breaks_off_while_it_is_loaded_is_an_error_and_not_kept() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    *fixture.store.break_after.lock().expect("no panic") = Some(1);
    fixture.get(&path, &[]).await.assert_problem(503, "storage-unavailable");
    *fixture.store.break_after.lock().expect("no panic") = None;
    assert_eq!(fixture.get(&path, &[]).await.body, BYTES);
}

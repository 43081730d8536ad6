use std::sync::atomic::Ordering;

use serde_json::json;

use super::*;

const ADMIN: (&str, &str) = ("x-admin", "1");

#[tokio::test]
async fn listing_is_newest_first_and_pages_by_cursor() {
    let fixture = Fixture::new();
    let mut ids: Vec<_> = (0..5).map(|_| fixture.store.put(Format::Png, BYTES).image_id).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut listed = Vec::new();
    let mut query = "?limit=2".to_owned();
    for page in 1.. {
        let answer = fixture.get(&format!("/images/{query}"), &[ADMIN]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        let json = answer.json();
        for image in json["images"].as_array().expect("images") {
            listed.push(image["image_id"].as_str().expect("an id").to_owned());
        }
        let Some(next) = json["next_cursor"].as_str() else {
            assert_eq!((json["next_cursor"].is_null(), page), (true, 3));
            break;
        };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(listed, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn listing_shows_url_and_metadata() {
    let fixture = Fixture::new();
    let image = fixture.store.put(Format::Jpeg, BYTES);
    let id = image.image_id;
    let answer = fixture.get("/images", &[ADMIN]).await;
    let mut expected = serde_json::to_value(&image).expect("JSON");
    expected["url"] = format!("http://images.example/images/{id}.jpg").into();
    expected["preview_url"] = format!("http://images.example/images/{id}.jpg?w=128&format=auto").into();
    assert_eq!(answer.json(), json!({"images": [expected], "next_cursor": null}));
    let head = fixture.send(Method::HEAD, "/images", &[ADMIN]).await;
    assert_eq!((head.headers, head.body), (answer.headers, Bytes::new()));

    let id = id.to_string();
    let with_prefix = fixture.get(&format!("/images/?prefix={}", &id[..12]), &[ADMIN]).await;
    assert_eq!(with_prefix.json()["images"].as_array().map(Vec::len), Some(1));
    let other = if id.starts_with('0') { "f" } else { "0" };
    let without = fixture.get(&format!("/images/?prefix={other}"), &[ADMIN]).await;
    assert_eq!(without.json()["images"], json!([]));
}

#[tokio::test]
async fn listing_with_a_bad_query_names_the_field() {
    let fixture = Fixture::new();
    let answer = fixture.get("/images?limit=0&page=2", &[ADMIN]).await;
    answer.assert_problem(400, "invalid-query");
    assert_eq!(
        answer.json()["errors"],
        json!([
            {"field": "limit", "value": "0", "allowed": "a whole number from 1 to 1000"},
            {"field": "page", "value": "2",
             "allowed": "no such parameter; the parameters are prefix, limit, cursor, model, created_after, \
                         created_before"},
        ])
    );
    assert_eq!(fixture.store.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn image_is_deleted_once() {
    let fixture = Fixture::new();
    for extension in ["", ".png"] {
        let id = fixture.store.put(Format::Png, BYTES).image_id;
        let path = format!("/images/{id}{extension}");
        let answer = fixture.send(Method::DELETE, &path, &[ADMIN]).await;
        assert_eq!((answer.status.as_u16(), answer.body), (204, Bytes::new()));
        fixture.get(&path, &[]).await.assert_problem(404, "not-found");
        fixture.send(Method::DELETE, &path, &[ADMIN]).await.assert_problem(404, "not-found");
    }
    fixture.send(Method::DELETE, "/images/x", &[ADMIN]).await.assert_problem(404, "not-found");
}

#[tokio::test]
async fn image_that_is_not_the_one_meant_is_not_deleted() {
    let fixture = Fixture::new();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let path = format!("/images/{id}");
    fixture.send(Method::DELETE, &format!("{path}.jpg"), &[ADMIN]).await.assert_problem(404, "not-found");
    for field in [("if-match", "\"x\""), ("if-none-match", "*")] {
        let answer = fixture.send(Method::DELETE, &path, &[ADMIN, field]).await;
        answer.assert_problem(412, "precondition-failed");
    }
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
    let tag = ("if-match", "\"0123456789abcdef0123456789abcdef\"");
    assert_eq!(fixture.send(Method::DELETE, &path, &[ADMIN, tag]).await.status, 204);
}

#[tokio::test]
async fn listing_and_deleting_are_closed_to_others() {
    let fixture = Fixture::new();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let mut bodies = Vec::new();
    for (method, path) in [
        (Method::GET, "/images".to_owned()),
        (Method::GET, "/images/?limit=0".to_owned()),
        (Method::DELETE, format!("/images/{id}")),
        (Method::DELETE, format!("/images/{}", ImageId::now())),
        (Method::DELETE, "/images/x".to_owned()),
    ] {
        let answer = fixture.send(method, &path, &[]).await;
        answer.assert_problem(403, "forbidden");
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fixture.store.calls.load(Ordering::SeqCst), 0);
    assert_eq!(fixture.get(&format!("/images/{id}"), &[]).await.status, 200);
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let fixture = Fixture::new();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    for (path, allow) in [
        ("/images".to_owned(), "GET, HEAD, OPTIONS"),
        (format!("/images/{id}"), "GET, HEAD, DELETE, OPTIONS"),
        ("/images/x".to_owned(), "GET, HEAD, DELETE, OPTIONS"),
    ] {
        for method in [Method::POST, Method::PUT, Method::TRACE, "PURGE".parse().expect("a method")] {
            let answer = fixture.send(method, &path, &[ADMIN]).await;
            answer.assert_problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), allow);
        }
        let options = fixture.send(Method::OPTIONS, &path, &[]).await;
        assert_eq!((options.status.as_u16(), options.header("allow")), (204, allow));
    }
    let delete = fixture.send(Method::DELETE, "/images", &[ADMIN]).await;
    delete.assert_problem(405, "method-not-allowed");
}

/// Ids of a listing's images, and its cursor.
async fn listed(fixture: &Fixture, query: &str) -> (Vec<String>, Option<String>) {
    let json = fixture.get(&format!("/images/?{query}"), &[ADMIN]).await.json();
    let id = |image: &Value| image["image_id"].as_str().expect("an id").to_owned();
    let ids = json["images"].as_array().expect("images").iter().map(id).collect();
    (ids, json["next_cursor"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn listing_by_model_pages_through_those_alone() {
    let fixture = Fixture::new();
    let mut wanted = Vec::new();
    for number in 0..30 {
        let model = if number % 7 == 0 { "flux" } else { "sd" };
        let image =
            fixture.store.put_with(Format::Png, BYTES, |image| image.generation.model = model.to_owned());
        if model == "flux" {
            wanted.insert(0, image.image_id.to_string());
        }
    }
    assert_eq!(listed(&fixture, "model=flux").await, (wanted.clone(), None));
    let (first, cursor) = listed(&fixture, "model=flux&limit=2").await;
    assert_eq!(first, wanted[..2]);
    let (rest, end) = listed(&fixture, &format!("model=flux&cursor={}", cursor.expect("more"))).await;
    assert_eq!((rest, end), (wanted[2..].to_vec(), None));
    assert_eq!(listed(&fixture, "model=none").await, (Vec::new(), None));
    assert_eq!(listed(&fixture, "model=fl").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn listing_by_time_is_between_the_moments() {
    let fixture = Fixture::new();
    let at = |seconds: u64| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let ids: Vec<_> = (0..5)
        .map(|number| {
            let id = ImageId::at(at(1_700_000_000 + number * 60));
            fixture.store.put_with(Format::Png, BYTES, |image| image.image_id = id);
            id.to_string()
        })
        .collect();
    // 2023-11-14T22:13:20Z and each minute after.
    for (query, expected) in [
        ("created_after=2023-11-14T22:14:20Z", &[4, 3, 2][..]),
        ("created_before=2023-11-14T22:15:20Z", &[1, 0]),
        ("created_before=2023-11-14T22:15:20.001Z", &[2, 1, 0]),
        ("created_after=2023-11-14T22:13:20Z&created_before=2023-11-14T22:16:20Z", &[2, 1]),
        ("created_after=2023-11-14T22:13:19.999Z&created_before=2023-11-14T22:13:21%2B00:00", &[0]),
        ("created_after=2030-01-01T00:00:00Z", &[]),
        ("created_before=1970-01-01T00:00:00Z", &[]),
        ("created_before=2023-11-14T22:16:20Z&limit=2", &[2, 1]),
    ] {
        let expected: Vec<_> = expected.iter().map(|index: &usize| ids[*index].clone()).collect();
        assert_eq!(listed(&fixture, query).await.0, expected, "{query}");
    }
    let (page, cursor) = listed(&fixture, "created_after=2023-11-14T22:13:20Z&limit=2").await;
    assert_eq!(page, [ids[4].clone(), ids[3].clone()]);
    let query = format!("created_after=2023-11-14T22:13:20Z&limit=2&cursor={}", cursor.expect("more"));
    assert_eq!(listed(&fixture, &query).await, (vec![ids[2].clone(), ids[1].clone()], Some(ids[1].clone())));
}

/// As many images as two and a half pages of the list hold, of which most of the metadata is prompts
/// that JSON makes six times as long.
fn put_long_prompts(fixture: &Fixture) -> Vec<String> {
    let put = |_| {
        let image = fixture.store.put_with(Format::Png, BYTES, |image| {
            image.generation.prompt = "\u{1}".repeat(10_000);
            image.generation.negative_prompt = Some("\u{1}".repeat(10_000));
        });
        image.image_id.to_string()
    };
    let mut ids: Vec<_> = (0..85).map(put).collect();
    ids.reverse();
    ids
}

#[tokio::test]
async fn listing_of_long_prompts_comes_in_pages_of_four_mebibytes() {
    let fixture = Fixture::new();
    let ids = put_long_prompts(&fixture);
    for model in ["", "&model=m"] {
        let mut listed = Vec::new();
        let mut cursor = String::new();
        for page in 1.. {
            let answer = fixture.get(&format!("/images/?limit=1000{model}{cursor}"), &[ADMIN]).await;
            assert!(answer.body.len() <= 4 << 20, "{} bytes", answer.body.len());
            let json = answer.json();
            let images = json["images"].as_array().expect("images");
            assert_eq!(images[0]["prompt"], "\u{1}".repeat(10_000));
            listed.extend(images.iter().map(|image| image["image_id"].as_str().expect("an id").to_owned()));
            let Some(next) = json["next_cursor"].as_str() else {
                assert_eq!(page, 3);
                break;
            };
            assert!(answer.body.len() > 3 << 20, "{} bytes", answer.body.len());
            cursor = format!("&cursor={next}");
        }
        assert_eq!(listed, ids, "{model}");
    }
}

#[tokio::test]
async fn listing_asks_the_store_for_few_images_at_once() {
    let fixture = Fixture::new();
    for _ in 0..200 {
        fixture.store.put(Format::Png, BYTES);
    }
    for query in ["limit=1000", "limit=1000&model=m", "limit=150", "model=other"] {
        fixture.get(&format!("/images/?{query}"), &[ADMIN]).await;
        assert_eq!(fixture.store.most_listed.load(Ordering::SeqCst), 64, "{query}");
    }
    assert_eq!(listed(&fixture, "limit=150").await.0.len(), 150);
}

#[tokio::test(start_paused = true)]
async fn listings_that_nobody_reads_make_others_wait_and_then_come_again() {
    let fixture = Fixture::new();
    put_long_prompts(&fixture);
    let long = "/images/?limit=1000";
    let mut unread = Vec::new();
    for _ in 0..4 {
        let response = fixture.response(Method::GET, long, &[ADMIN]).await;
        assert_eq!(response.status(), 200);
        unread.push(response);
    }
    let refused = fixture.get("/images/?limit=1", &[ADMIN]).await;
    refused.assert_problem(503, "listings-busy");
    assert_eq!(refused.header("retry-after"), "1");
    // Nor is one read that waits in the connection: its body is gone, its bytes are not.
    let body = unread.pop().expect("a response").into_body();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    fixture.get(long, &[ADMIN]).await.assert_problem(503, "listings-busy");
    drop(bytes);
    assert_eq!(fixture.get(long, &[ADMIN]).await.status, 200);
    // Images are read meanwhile, and nobody who only asks what is there holds anything.
    for _ in 0..10 {
        let head = fixture.response(Method::HEAD, long, &[ADMIN]).await;
        assert_eq!(head.status(), 200);
        unread.push(head);
    }
}

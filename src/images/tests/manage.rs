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
    expected["url"] = format!("http://localhost:8000/images/{id}.jpg").into();
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
             "allowed": "no such parameter; the parameters are prefix, limit, cursor"},
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

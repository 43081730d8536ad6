use std::sync::atomic::Ordering;

use chrono::{TimeDelta, Utc};
use futures_util::StreamExt;
use http_body_util::BodyDataStream;

use super::{fake::Fault, *};

#[tokio::test]
async fn image_is_delivered_whole_with_all_headers() {
    let fixture = Fixture::new();
    for format in Format::ALL {
        let id = fixture.store.put(format, BYTES).image_id;
        for path in [format!("/images/{id}"), format!("/images/{id}.{}", format.extension())] {
            let answer = fixture.get(&path, &[]).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.body, BYTES);
            let age: u32 = answer
                .header("cache-control")
                .strip_prefix("public, max-age=")
                .and_then(|rest| rest.strip_suffix(", immutable"))
                .and_then(|age| age.parse().ok())
                .expect("a max-age");
            assert!((1..=100).contains(&age), "{age} s of the remaining 100");
            for (name, expected) in [
                ("content-type", format.media_type()),
                ("content-length", "26"),
                ("etag", "\"0123456789abcdef0123456789abcdef\""),
                ("accept-ranges", "bytes"),
                ("x-content-type-options", "nosniff"),
                ("content-security-policy", "default-src 'none'; sandbox"),
                ("cross-origin-resource-policy", "cross-origin"),
                ("content-disposition", &format!("inline; filename=\"{id}.{}\"", format.extension())),
            ] {
                assert_eq!(answer.header(name), expected, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let fixture = Fixture::new();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    let absent = ImageId::now();
    for path in [format!("/images/{id}"), format!("/images/{id}.jpg"), format!("/images/{absent}")] {
        let get = fixture.get(&path, &[]).await;
        let head = fixture.send(Method::HEAD, &path, &[]).await;
        assert_eq!(
            (head.status, without_age(head.headers)),
            (get.status, without_age(get.headers)),
            "{path}"
        );
        assert_eq!(head.body, "");
    }
    assert_eq!(fixture.store.chunks.load(Ordering::SeqCst), 3, "only GET reads");
}

#[tokio::test]
async fn bad_absent_and_expired_ids_get_the_same_404() {
    let fixture = Fixture::new();
    let there = fixture.store.put(Format::Png, BYTES).image_id;
    let expired = fixture.store.put_with(Format::Png, BYTES, |image| image.expires_at = Utc::now()).image_id;
    let absent = fixture.get(&format!("/images/{}", ImageId::now()), &[]).await;
    absent.assert_problem(404, "not-found");
    for path in [
        format!("/images/{expired}"),
        format!("/images/{expired}.png"),
        format!("/images/{there}.jpg"),
        format!("/images/{there}.jpeg"),
        format!("/images/{there}."),
        format!("/images/{there}/"),
        "/images/x".to_owned(),
        "/images/..%2f..%2fetc%2fpasswd".to_owned(),
        "/elsewhere".to_owned(),
    ] {
        let answer = fixture.get(&path, &[("range", "bytes=0-0"), ("if-none-match", "*")]).await;
        assert_eq!(answer.status, absent.status, "{path}");
        assert_eq!(answer.headers, absent.headers, "{path}");
        assert_eq!(answer.body, absent.body, "{path}");
    }
}

#[tokio::test]
async fn image_that_the_client_has_is_304() {
    let fixture = Fixture::new();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    let whole = fixture.get(&path, &[]).await;
    let (tag, modified) = (whole.header("etag"), whole.header("last-modified"));
    for field in [
        ("if-none-match", tag),
        ("if-none-match", &format!("\"x\", W/{tag}")),
        ("if-none-match", "*"),
        ("if-modified-since", modified),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = fixture.send(method, &path, &[field, ("range", "bytes=0-1")]).await;
            assert_eq!(answer.status, 304, "{field:?}");
            assert_eq!((answer.header("etag"), answer.header("last-modified")), (tag, modified));
            assert!(answer.header("cache-control").starts_with("public, max-age="));
            assert!(!answer.headers.contains_key("content-length"));
            assert_eq!(answer.body, "");
        }
    }
    assert_eq!(fixture.get(&path, &[("if-none-match", "\"x\"")]).await.body, BYTES);
    let both = [("if-none-match", "\"x\""), ("if-modified-since", modified)];
    assert_eq!(fixture.get(&path, &both).await.status, 200);
    fixture.get(&path, &[("if-match", "\"x\"")]).await.assert_problem(412, "precondition-failed");
}

#[tokio::test]
async fn range_within_the_image_is_206() {
    let fixture = Fixture::new();
    let path = format!("/images/{}.webp", fixture.store.put(Format::WebP, BYTES).image_id);
    let tag = "\"0123456789abcdef0123456789abcdef\"";
    for (range, content_range, body) in [
        ("bytes=0-0", "bytes 0-0/26", "a"),
        ("bytes=5-24", "bytes 5-24/26", "fghijklmnopqrstuvwxy"),
        ("bytes=24-", "bytes 24-25/26", "yz"),
        ("bytes=-3", "bytes 23-25/26", "xyz"),
        ("bytes=20-999", "bytes 20-25/26", "uvwxyz"),
    ] {
        let answer = fixture.get(&path, &[("range", range), ("if-range", tag)]).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), body.len().to_string());
        assert_eq!(answer.header("content-type"), "image/webp");
        assert_eq!(answer.header("etag"), tag);
        assert_eq!(answer.body, body);
    }
}

#[tokio::test]
async fn range_after_the_end_is_416() {
    let fixture = Fixture::new();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    for range in ["bytes=26-", "bytes=-0"] {
        let answer = fixture.get(&path, &[("range", range)]).await;
        answer.assert_problem(416, "range-not-satisfiable");
        assert_eq!(answer.header("content-range"), "bytes */26");
    }
    assert_eq!(fixture.store.chunks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn range_that_does_not_count_gets_the_whole() {
    let fixture = Fixture::new();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    for fields in [
        &[("range", "bytes=0-1,4-5")][..],
        &[("range", "bytes=2-1")],
        &[("range", "items=0-1")],
        &[("range", "bytes=0-1"), ("range", "bytes=0-1")],
        &[("range", "bytes=0-1"), ("if-range", "\"x\"")],
        &[("range", "bytes=0-1"), ("if-range", "W/\"0123456789abcdef0123456789abcdef\"")],
        &[("range", "bytes=26-"), ("if-range", "\"x\"")],
    ] {
        let answer = fixture.get(&path, fields).await;
        assert_eq!((answer.status.as_u16(), answer.body), (200, BYTES.into()), "{fields:?}");
    }
    let head = fixture.send(Method::HEAD, &path, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "26"));
}

#[tokio::test]
async fn body_asks_the_store_for_a_chunk_only_when_it_is_polled() {
    let fixture = Fixture::new();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    let response = fixture.response(Method::GET, &path, &[]).await;
    let chunks = || fixture.store.chunks.load(Ordering::SeqCst);
    assert_eq!(chunks(), 0);
    let mut body = BodyDataStream::new(response.into_body());
    for expected in [&b"abcdefghij"[..], b"klmnopqrst"] {
        let before = chunks();
        assert_eq!(body.next().await.expect("a chunk").expect("no error"), expected);
        assert_eq!(chunks(), before + 1);
    }
    drop(body);
    assert_eq!(chunks(), 2, "the last chunk was never asked for");
}

#[tokio::test]
async fn stream_that_breaks_off_is_an_error_of_the_body() {
    let fixture = Fixture::new();
    let path = format!("/images/{}", fixture.store.put(Format::Png, BYTES).image_id);
    *fixture.store.break_after.lock().expect("no panic") = Some(1);
    let response = fixture.response(Method::GET, &path, &[]).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn store_that_fails_is_a_problem_without_its_words() {
    let faults: [(Fault, u16, &str, &str); 4] = [
        (|| storage::Error::Unavailable("secret-host".into()), 503, "storage-unavailable", "5"),
        (|| storage::Error::ReadOnly(std::io::Error::other("/secret/path")), 503, "storage-unavailable", "5"),
        (|| storage::Error::Full(Some(std::io::Error::other("/secret/path"))), 507, "storage-full", ""),
        (
            || storage::Error::Corrupt { id: ImageId::now(), reason: "secret digest".to_owned() },
            500,
            "internal",
            "",
        ),
    ];
    let fixture = Fixture::new();
    let id = fixture.store.put(Format::Png, BYTES).image_id;
    for (fault, status, slug, retry_after) in faults {
        fixture.store.fail_with(fault);
        for (method, path) in [
            (Method::GET, format!("/images/{id}")),
            (Method::DELETE, format!("/images/{id}")),
            (Method::GET, "/images/".to_owned()),
        ] {
            let answer = fixture.send(method, &path, &[("x-admin", "1")]).await;
            answer.assert_problem(status, slug);
            assert_eq!(answer.header("retry-after"), retry_after);
            assert!(!answer.body.windows(6).any(|text| text == b"secret"), "{}", answer.body.escape_ascii());
        }
    }
}

#[tokio::test]
async fn metadata_that_no_header_can_hold_is_a_500() {
    let fixture = Fixture::new();
    let damaged =
        fixture.store.put_with(Format::Png, BYTES, |image| image.blake3 = "a\r\nset-cookie: x".to_owned());
    fixture.get(&format!("/images/{}", damaged.image_id), &[]).await.assert_problem(500, "internal");
}

#[tokio::test]
async fn dates_out_of_the_ordinary_stay_within_what_http_can_say() {
    let fixture = Fixture::new();
    for (created_at, expires_at) in [
        (Utc::now() + TimeDelta::days(365), chrono::DateTime::<Utc>::MAX_UTC),
        (chrono::DateTime::<Utc>::MIN_UTC, Utc::now() + TimeDelta::seconds(9)),
    ] {
        let image = fixture.store.put_with(Format::Png, BYTES, |image| {
            image.created_at = created_at;
            image.expires_at = expires_at;
        });
        let answer = fixture.get(&format!("/images/{}", image.image_id), &[]).await;
        assert_eq!(answer.status, 200);
        let modified = httpdate::parse_http_date(answer.header("last-modified")).expect("a date");
        assert!(modified <= std::time::SystemTime::now());
    }
}

fn without_age(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("cache-control");
    headers
}

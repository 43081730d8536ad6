use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::sync::Semaphore;

use super::*;
use crate::{
    image::{Metadata, SigningKey, inspect},
    secret::Secret,
};

/// A picture in the store.
fn put(fixture: &Fixture, width: u32, height: u32) -> Metadata {
    let image = RgbImage::from_fn(width, height, |x, y| {
        let channel = |value: u32| u8::try_from(value % 256).expect("below 256");
        Rgb([channel(x), channel(y), channel(x * y)])
    });
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(image).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("encodes");
    fixture.store.put_with(Format::Png, bytes, |image| {
        image.generation.prompt = "a fox, \"quoted\"".to_owned();
        (image.width, image.height) = (width, height);
    })
}

fn size_of(answer: &Answer) -> (Format, u32, u32) {
    let limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 };
    let inspected = inspect(&answer.body, limits).expect("an image");
    (inspected.format, inspected.dimensions.width, inspected.dimensions.height)
}

#[tokio::test]
async fn variant_has_the_size_and_format_asked_for() {
    let fixture = Fixture::with(&caching());
    let id = put(&fixture, 200, 100).image_id;
    for (query, expected, media_type) in [
        ("w=64", (Format::Png, 64, 32), "image/png"),
        ("h=16&format=webp", (Format::WebP, 32, 16), "image/webp"),
        ("w=64&h=64&fit=cover&format=jpeg&q=50", (Format::Jpeg, 64, 64), "image/jpeg"),
        ("w=64&h=64&fit=fill", (Format::Png, 64, 64), "image/png"),
        ("w=64&h=64", (Format::Png, 64, 32), "image/png"),
        ("format=webp", (Format::WebP, 128, 64), "image/webp"),
    ] {
        for extension in ["", ".png"] {
            let answer = fixture.get(&format!("/images/{id}{extension}?{query}"), &[]).await;
            assert_eq!(answer.status, 200, "{query}: {}", answer.body.escape_ascii());
            assert_eq!(size_of(&answer), expected, "{query}");
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("content-length"), answer.body.len().to_string());
            assert!(answer.header("cache-control").starts_with("public, max-age="));
            assert!(!answer.headers.contains_key("vary"), "nothing was negotiated");
        }
    }
}

#[tokio::test]
async fn auto_format_follows_accept_and_says_so() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}?w=64&format=auto", put(&fixture, 200, 100).image_id);
    let mut tags = Vec::new();
    for (accept, format) in [
        ("image/avif,image/webp,*/*;q=0.8", Format::WebP),
        ("*/*", Format::Png),
        ("image/jpeg", Format::Jpeg),
    ] {
        let answer = fixture.get(&path, &[("accept", accept)]).await;
        assert_eq!((size_of(&answer).0, answer.header("vary")), (format, "Accept"), "{accept}");
        tags.push(answer.header("etag").to_owned());
        let known = fixture.get(&path, &[("accept", accept), ("if-none-match", &tags[tags.len() - 1])]).await;
        assert_eq!((known.status.as_u16(), known.header("vary")), (304, "Accept"));
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3);
}

#[tokio::test]
async fn variant_is_a_representation_of_its_own() {
    let fixture = Fixture::with(&caching());
    let metadata = put(&fixture, 200, 100);
    let path = format!("/images/{}?w=64&format=webp", metadata.image_id);
    let (whole, head) = (fixture.get(&path, &[]).await, fixture.send(Method::HEAD, &path, &[]).await);
    let tag = whole.header("etag").to_owned();
    assert_ne!(tag, metadata.entity_tag());
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    assert_eq!((head.header("etag"), head.header("content-length")), (&*tag, whole.header("content-length")));
    assert_eq!(head.body, "");
    let part = fixture.get(&path, &[("range", "bytes=4-11"), ("if-range", &tag)]).await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &whole.body[4..12]));
    assert_eq!(fixture.get(&path, &[("if-match", &metadata.entity_tag())]).await.status, 412);
    assert_eq!(fixture.get(&path, &[("range", "bytes=999999-")]).await.status, 416);
}

#[tokio::test]
async fn tag_of_a_variant_is_known_without_the_work() {
    let fixture = Fixture::with(&plain());
    let path = format!("/images/{}?w=64", put(&fixture, 200, 100).image_id);
    let tag = fixture.get(&path, &[]).await.header("etag").to_owned();
    let calls = fixture.calls();
    assert_eq!(fixture.get(&path, &[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(fixture.calls(), calls + 1, "metadata alone");
}

#[tokio::test]
async fn variant_asked_for_at_once_is_made_once_and_kept() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}?w=64&format=webp", put(&fixture, 200, 100).image_id);
    let answers = join_all((0..64).map(|_| fixture.get(&path, &[]))).await;
    assert!(answers.windows(2).all(|pair| pair[0].body == pair[1].body && pair[0].status == 200));
    let made = fixture.delivery_made();
    assert_eq!(made, 1);
    fixture.get(&path, &[]).await;
    assert_eq!(fixture.delivery_made(), 1);
}

#[cfg(feature = "avif")]
#[tokio::test]
async fn avif_is_made_once_and_is_a_representation_of_its_own() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", put(&fixture, 200, 100).image_id);
    let variant = format!("{path}?w=64&format=avif");
    let answers = join_all((0..8).map(|_| fixture.get(&variant, &[]))).await;
    assert_eq!(fixture.delivery_made(), 1);
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/avif"));
        assert_eq!(&answer.body[4..12], b"ftypavif");
        assert!(answer.header("content-disposition").ends_with(".avif\""));
    }
    let negotiated = [("accept", "image/avif,*/*;q=0.5")];
    let auto = fixture.get(&format!("{path}?w=64&format=auto"), &negotiated).await;
    assert_eq!((auto.header("content-type"), auto.header("vary")), ("image/avif", "Accept"));
    assert_eq!(auto.body, answers[0].body);
    assert_eq!(fixture.delivery_made(), 1, "it is the same variant, and it was kept");
    fixture.get(&format!("{path}.avif"), &[]).await.assert_problem(404, "not-found");
}

#[tokio::test]
async fn bad_variant_names_field_value_and_what_is_allowed() {
    let fixture = Fixture::new();
    let id = put(&fixture, 20, 10).image_id;
    for path in [format!("/images/{id}"), format!("/images/{}", ImageId::now()), "/images/x".to_owned()] {
        let answer = fixture.get(&format!("{path}?w=100&format=gif"), &[]).await;
        answer.assert_problem(400, "invalid-query");
        let errors = answer.json()["errors"].clone();
        assert_eq!(errors[0]["allowed"], "one of 16, 64, 128");
        assert_eq!(errors[1]["field"], "format");
    }
    assert_eq!(fixture.calls(), 0);
}

#[tokio::test]
async fn variant_of_what_cannot_be_decoded_is_422() {
    let fixture = Fixture::new();
    let not_an_image = fixture.store.put(Format::Png, BYTES).image_id;
    fixture.get(&format!("/images/{not_an_image}?w=64"), &[]).await.assert_problem(422, "variant-impossible");
    assert_eq!(fixture.get(&format!("/images/{not_an_image}"), &[]).await.status, 200);
    // More pixels in the header than may be decoded, though the file is small.
    let bomb = put(&fixture, 300, 300).image_id;
    fixture.get(&format!("/images/{bomb}?w=64"), &[]).await.assert_problem(422, "variant-impossible");
}

#[tokio::test]
async fn download_is_named_after_the_prompt() {
    let fixture = Fixture::new();
    let id = put(&fixture, 100, 100).image_id;
    for (query, expected) in [
        ("?download", "attachment; filename=\"a fox, quoted.png\""),
        ("?download=1&w=64&format=webp", "attachment; filename=\"a fox, quoted.webp\""),
        ("?download=0", &format!("inline; filename=\"{id}.png\"")),
        ("?format=jpeg", &format!("inline; filename=\"{id}.jpg\"")),
    ] {
        let answer = fixture.get(&format!("/images/{id}{query}"), &[]).await;
        assert_eq!(answer.header("content-disposition"), expected);
    }
}

#[tokio::test]
async fn unsigned_image_is_the_same_404_where_urls_are_signed() {
    let key = SigningKey { id: "k1".to_owned(), secret: Secret::new("s".repeat(32)) };
    let urls = ImageUrls::signed("http://images.example", vec![key], None);
    let fixture = Fixture::with(&Config { urls: urls.clone(), cdn: true, ..caching() });
    let metadata = put(&fixture, 100, 100);
    let path = |variant: &str| {
        let url = urls.variant_url(&metadata, variant, Utc::now());
        url.strip_prefix("http://images.example").expect("the base").to_owned()
    };
    for variant in ["", "w=64&format=webp"] {
        let answer = fixture.get(&path(variant), &[]).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("cache-control").starts_with("private, max-age="));
        for name in ["cdn-cache-control", "surrogate-key", "cache-tag"] {
            assert!(!answer.headers.contains_key(name), "{name}: a CDN is not to keep it");
        }
    }
    assert_eq!(fixture.get(&format!("{}&download", path("")), &[]).await.status, 200);
    let absent = fixture.get(&format!("/images/{}", ImageId::now()), &[]).await;
    let signed = path("");
    for path in [
        format!("/images/{}.png", metadata.image_id),
        format!("/images/{}.png?w=64", metadata.image_id),
        format!("/images/{}.png?w=7", metadata.image_id),
        format!("{signed}&w=64"),
        format!("{signed}&exp=1"),
        signed.replace(".png", ""),
        signed.replace("key=k1", "key=k2"),
        signed[..signed.len() - 2].to_owned(),
    ] {
        let answer = fixture.get(&path, &[]).await;
        assert_eq!(
            (answer.status, &answer.headers, &answer.body),
            (absent.status, &absent.headers, &absent.body),
            "{path}"
        );
    }
    let listing = fixture.get("/images/", &[("x-admin", "1")]).await.json();
    let url = listing["images"][0]["preview_url"].as_str().expect("a URL").to_owned();
    assert_eq!(
        fixture.get(url.strip_prefix("http://images.example").expect("the base"), &[]).await.status,
        200
    );
    let deleted =
        fixture.send(Method::DELETE, &format!("/images/{}", metadata.image_id), &[("x-admin", "1")]).await;
    assert_eq!(deleted.status, 204, "who may manage needs no signature");
}

#[tokio::test]
async fn cdn_is_told_tag_and_lifetime() {
    let fixture = Fixture::with(&Config { cdn: true, ..plain() });
    let id = put(&fixture, 100, 100).image_id;
    for query in ["", "?w=64"] {
        let answer = fixture.get(&format!("/images/{id}{query}"), &[]).await;
        assert_eq!(answer.header("surrogate-key"), id.to_string());
        assert_eq!(answer.header("cache-tag"), id.to_string());
        assert!(answer.header("cdn-cache-control").starts_with("public, max-age="));
    }
    let credentialed = Request::builder()
        .uri(format!("/images/{id}"))
        .extension(Credentialed)
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let Ok(response) = fixture.images.clone().oneshot(credentialed).await;
    let control = response.headers()["cache-control"].to_str().expect("text").to_owned();
    assert!(control.starts_with("private, max-age="), "{control}");
    assert!(!response.headers().contains_key("cdn-cache-control"));
}

/// As many as wait for a variant at most: one place at work.
const SEATS: usize = 64;

/// A request for one of many variants of an image.
fn ask<'a>(fixture: &'a Fixture, address: &'a str, path: &str, quality: usize) -> BoxFuture<'a, Answer> {
    let path = format!("{path}?w=16&format=jpeg&q={quality}");
    async move { fixture.get_from(address, &path).await }.boxed()
}

/// Requests of one client for different variants.
fn greedy<'a>(fixture: &'a Fixture, path: &str, count: usize) -> Vec<BoxFuture<'a, Answer>> {
    (1..=count).map(|quality| ask(fixture, "192.0.2.1", path, quality)).collect()
}

/// Lets requests go as far as they come; those that are answered are taken out.
async fn advance(requests: &mut Vec<BoxFuture<'_, Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..10 {
        let mut index = 0;
        while let Some(request) = requests.get_mut(index) {
            match futures_util::poll!(request) {
                Poll::Ready(answer) => {
                    answers.push(answer);
                    drop(requests.remove(index));
                }
                Poll::Pending => index += 1,
            }
        }
    }
    answers
}

#[tokio::test]
async fn client_that_fills_the_queue_does_not_keep_variants_from_others() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", put(&fixture, 200, 100).image_id);
    let other = format!("/images/{}", put(&fixture, 100, 100).image_id);
    let gate = Arc::new(Semaphore::new(0));
    *fixture.store.gate.lock().expect("no panic") = Some(Arc::clone(&gate));
    let mut greedy = greedy(&fixture, &path, 1 + SEATS + 1);
    let refused = advance(&mut greedy).await;
    assert_eq!(refused.len(), 1, "one is at work, the others wait");
    refused[0].assert_problem(503, "variants-busy");
    assert!(refused[0].json()["detail"].as_str().expect("a text").contains("waiting to be made"));
    assert_eq!(fixture.images.delivery.variants().waiting(), SEATS);

    let mut others: Vec<_> =
        ["192.0.2.2", "192.0.2.3"].map(|address| ask(&fixture, address, &other, 80)).into();
    // The second joins the first: one seat for both.
    assert!(advance(&mut others).await.is_empty(), "they wait");
    let displaced = advance(&mut greedy).await;
    assert_eq!(displaced.len(), 1, "and the last of the others made room");
    displaced[0].assert_problem(503, "variants-busy");
    assert_eq!(fixture.images.delivery.variants().waiting(), SEATS);

    gate.add_permits(2);
    let first = greedy.remove(0);
    assert_eq!(first.await.status, 200, "it was at work");
    for answer in join_all(others).await {
        assert_eq!(answer.status, 200, "their turn comes next");
    }
    gate.add_permits(SEATS);
    assert!(join_all(greedy).await.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn turn_that_another_client_lost_is_not_lost_for_who_joined_it() {
    let fixture = Fixture::with(&caching());
    let path = format!("/images/{}", put(&fixture, 200, 100).image_id);
    let gate = Arc::new(Semaphore::new(0));
    *fixture.store.gate.lock().expect("no panic") = Some(Arc::clone(&gate));
    let mut greedy = greedy(&fixture, &path, 1 + SEATS);
    assert!(advance(&mut greedy).await.is_empty());
    // One joins the last of these, another needs its seat.
    let mut joined = vec![ask(&fixture, "192.0.2.2", &path, 1 + SEATS)];
    assert!(advance(&mut joined).await.is_empty());
    let mut third = vec![ask(&fixture, "192.0.2.3", &path, 99)];
    assert!(advance(&mut third).await.is_empty());
    let displaced = advance(&mut greedy).await;
    assert!(advance(&mut joined).await.is_empty(), "it waits, now in a turn of its own");
    let displaced = displaced.into_iter().chain(advance(&mut greedy).await).collect::<Vec<_>>();
    assert!(!displaced.is_empty() && displaced.iter().all(|answer| answer.status == 503));
    gate.add_permits(2 * SEATS);
    for answer in join_all(joined.into_iter().chain(third).chain(greedy)).await {
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn variant_without_room_in_memory_says_so() {
    let fixture = Fixture::new();
    let path = format!("/images/{}?w=64", put(&fixture, 200, 100).image_id);
    let cache = fixture.images.delivery.originals().cache();
    // Slow readers hold it all.
    let held = cache.reserve(16 << 20).expect("nothing is held yet");
    let answer = fixture.get(&path, &[]).await;
    answer.assert_problem(503, "variants-busy");
    let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains("memory") && !detail.contains("waiting"), "{detail}");
    assert_eq!(answer.header("retry-after"), "1");
    drop(held);
    assert_eq!(fixture.get(&path, &[]).await.status, 200);
}

//! Variants, downloads, filters and foreign pages, against the whole server.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use image::ImageFormat;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client},
    large,
    process::Process,
    server::TestServer,
};

async fn drawn(client: &Client, prompt: &str) -> (Value, String) {
    let arguments = json!({"prompt": prompt, "width": 256, "height": 192, "num_inference_steps": 1});
    let image = client.generate(&arguments).await.json();
    let path = format!("/images/{}.png", image["image_id"].as_str().expect("an id"));
    (image, path)
}

#[tokio::test]
async fn variant_decodes_to_the_size_asked_for() {
    let server = TestServer::start().await;
    let client = server.client();
    let (_, path) = drawn(&client, "a fox").await;
    for (query, format, size) in [
        ("w=128", ImageFormat::Png, (128, 96)),
        ("w=128&format=jpeg", ImageFormat::Jpeg, (128, 96)),
        ("h=64&format=webp", ImageFormat::WebP, (85, 64)),
        ("w=64&h=128&fit=cover&format=webp", ImageFormat::WebP, (64, 128)),
        ("w=128&h=128&fit=fill", ImageFormat::Png, (128, 128)),
        ("w=2048&format=webp&q=10", ImageFormat::WebP, (256, 192)),
    ] {
        let answer = client.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let decoded = image::load_from_memory_with_format(&answer.body, format).expect("decodes");
        assert_eq!((decoded.width(), decoded.height()), size, "{query}");
    }
}

/// Pixels across and down by the image spatial extents property (ISO/IEC 23008-12, 6.5.3).
#[cfg(feature = "avif")]
fn avif_size(bytes: &[u8]) -> (u32, u32) {
    let at = bytes.windows(4).position(|window| window == b"ispe").expect("extents") + 8;
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (number(at), number(at + 4))
}

#[cfg(feature = "avif")]
#[tokio::test]
async fn avif_has_the_size_asked_for_and_sizes_up_to_its_bound() {
    let server = TestServer::start().await;
    let client = server.client();
    let (_, path) = drawn(&client, "a fox").await;
    for (query, size) in [
        ("w=128&format=avif", (128, 96)),
        ("w=64&h=128&fit=cover&format=avif&q=30", (64, 128)),
        ("format=avif", (256, 192)),
    ] {
        let answer = client.get(&format!("{path}?{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/avif"), "{query}");
        assert_eq!(&answer.body[4..12], b"ftypavif", "{query}");
        assert_eq!(avif_size(&answer.body), size, "{query}");
    }
    let problem = client.get(&format!("{path}?w=2048&format=avif")).await.problem(400, "invalid-query");
    let allowed = "one of 64, 128, 256, 320, 512, 640, 768, 1024 with format=avif";
    assert_eq!(problem["errors"], json!([{"field": "w", "value": "2048", "allowed": allowed}]));
    let metrics = client.get("/metrics").await.text();
    assert!(metrics.contains("mcp_image_variants_total{format=\"avif\",outcome=\"ok\"}"), "{metrics}");
}

#[tokio::test]
async fn size_off_the_list_is_400_and_names_the_list() {
    let server = TestServer::start_with(&[("IMAGE_VARIANT_SIZES", "100, 50")]).await;
    let client = server.client();
    let (_, path) = drawn(&client, "a fox").await;
    let problem = client.get(&format!("{path}?w=64")).await.problem(400, "invalid-query");
    assert_eq!(problem["errors"], json!([{"field": "w", "value": "64", "allowed": "one of 50, 100"}]));
    assert_eq!(client.get(&format!("{path}?w=50")).await.status, 200);
}

#[tokio::test]
async fn requests_at_once_for_a_variant_do_the_work_once() {
    // A process of its own counts what it does alone.
    let server = Process::start(&[]).await;
    let client = server.client();
    let (_, path) = drawn(&client, "a fox").await;
    let path = format!("{path}?w=64&format=webp");
    let answers = join_all((0..64).map(|_| client.get(&path))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let metrics = client.get("/metrics").await.text();
    let made = "mcp_image_variants_total{format=\"webp\",outcome=\"ok\"} 1";
    assert!(metrics.lines().any(|line| line == made), "{metrics}");
}

#[tokio::test]
async fn header_that_promises_too_many_pixels_is_not_decoded() {
    let server = TestServer::start_with(&[("MAX_IMAGE_PIXELS", "65536")]).await;
    let client = server.client();
    let hour = Duration::from_secs(3600);
    let image = large::stored(server.folder(), 1, Duration::ZERO, hour).await;
    let path = format!("/images/{}", image.metadata.image_id);
    client.get(&format!("{path}?w=64")).await.problem(422, "variant-impossible");
    assert_eq!(client.get(&path).await.body, image.bytes, "as it is, it is delivered");
}

#[tokio::test]
async fn download_is_named_after_the_prompt() {
    let server = TestServer::start().await;
    let client = server.client();
    let (_, path) = drawn(&client, "Füchse im \"Schnee\"").await;
    let field = client.get(&format!("{path}?download")).await.header("content-disposition").to_owned();
    assert_eq!(
        field,
        "attachment; filename=\"F_chse im Schnee.png\"; filename*=UTF-8''F%C3%BCchse%20im%20Schnee.png"
    );
    let webp = client.get(&format!("{path}?download&w=64&format=webp")).await;
    assert!(webp.header("content-disposition").contains("Schnee.webp"));
}

#[tokio::test]
async fn listing_is_filtered_by_model_and_time() {
    let server = TestServer::start().await;
    let client = server.client();
    let hour = Duration::from_secs(3600);
    let large = large::stored(server.folder(), 1, hour / 2, hour).await.metadata;
    let (image, _) = drawn(&client, "a fox").await;
    let model = image["metadata"]["model"].as_str().expect("a model");
    let between = (large.created_at + hour / 4).to_rfc3339().replace('+', "%2B");
    for (query, expected) in [
        ("model=large".to_owned(), vec![large.image_id.to_string()]),
        (
            format!("model={}", model.replace(' ', "%20")),
            vec![image["image_id"].as_str().expect("an id").to_owned()],
        ),
        ("model=another".to_owned(), vec![]),
        (format!("created_before={between}"), vec![large.image_id.to_string()]),
        (format!("created_after={between}"), vec![image["image_id"].as_str().expect("an id").to_owned()]),
        (format!("created_after={between}&model=large"), vec![]),
    ] {
        let listing = client.get(&format!("/images/?{query}")).await.json();
        let ids: Vec<_> = listing["images"]
            .as_array()
            .expect("images")
            .iter()
            .map(|image| image["image_id"].clone())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
    let preview = client.get("/images/?limit=1").await.json()["images"][0]["preview_url"].clone();
    assert_eq!(client.get(preview.as_str().expect("a URL")).await.status, 200);
}

#[tokio::test]
async fn foreign_pages_may_read_images_where_they_are_allowed_and_nothing_else() {
    let allowed = "https://app.example";
    for (origins, answer) in [(None, None), (Some(allowed), Some(allowed)), (Some("*"), Some("*"))] {
        let variables: Vec<_> = origins.iter().map(|origins| ("CORS_ALLOWED_ORIGINS", *origins)).collect();
        let server = TestServer::start_with(&variables).await;
        let client = server.client();
        let (_, path) = drawn(&client, "a fox").await;
        let ask = |method: &'static str, path: &str, origin: &'static str| {
            client
                .request(method, path)
                .header("origin", origin)
                .header("access-control-request-method", "GET")
        };
        let read = Answer::of(ask("GET", &path, allowed)).await;
        let preflight = Answer::of(ask("OPTIONS", &path, allowed)).await;
        match answer {
            Some(origin) => {
                assert_eq!(
                    (read.status, read.header("access-control-allow-origin")),
                    (StatusCode::OK.as_u16(), origin)
                );
                assert_eq!(
                    (preflight.status, preflight.header("access-control-allow-methods")),
                    (204, "GET, HEAD")
                );
            }
            None => {
                assert_eq!((read.status, preflight.status), (403, 403));
                assert_eq!(read.header("access-control-allow-origin"), "");
            }
        }
        assert_eq!(Answer::of(ask("DELETE", &path, allowed)).await.status, 403);
        let listing = Answer::of(ask("GET", "/images/", allowed)).await;
        assert_eq!((listing.status, listing.header("access-control-allow-origin")), (403, ""));
        if origins != Some("*") {
            assert_eq!(Answer::of(ask("GET", &path, "https://evil.example")).await.status, 403);
        }
        assert_eq!(client.get(&path).await.status, 200, "what is no page's script needs no entry");
    }
}

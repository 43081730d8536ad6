use super::*;
use crate::image::{Format, Generation, ImageId};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn metadata() -> Metadata {
    Metadata {
        image_id: ImageId::now(),
        format: Format::Png,
        width: 1,
        height: 1,
        size_bytes: 1,
        blake3: String::new(),
        created_at: at(NOW),
        expires_at: at(NOW + 3600),
        thumbhash: None,
        generation: Generation {
            prompt: "a fox".to_owned(),
            negative_prompt: None,
            num_inference_steps: 1,
            guidance_scale: 7.5,
            seed: None,
            model: "m".to_owned(),
            predictor: "embedded".to_owned(),
            generation_seconds: 0.1,
        },
    }
}

fn key(id: &str) -> SigningKey {
    SigningKey { id: id.to_owned(), secret: Secret::new(format!("{id}-{}", "s".repeat(32))) }
}

fn keys(ids: &[&str]) -> Vec<SigningKey> {
    ids.iter().map(|id| key(id)).collect()
}

/// The signature in a URL, and the path before the query.
fn parts(url: &str) -> (String, [String; 3]) {
    let url = url::Url::parse(url).expect("a URL");
    let of = |name: &str| {
        url.query_pairs()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    (url.path().to_owned(), [of("exp"), of("key"), of("sig")])
}

fn verify(urls: &ImageUrls, url: &str, variant: &str, now: i64) -> Result<DateTime<Utc>, BadSignature> {
    let (path, [expires, key, signature]) = parts(url);
    urls.verify(&path, variant, Signature { expires: &expires, key: &key, signature: &signature }, at(now))
}

#[test]
fn url_without_keys_is_base_and_path() {
    let image = metadata();
    for base in ["https://cdn.example/a", "https://cdn.example/a/"] {
        let urls = ImageUrls::new(base);
        assert!(!urls.is_signed());
        assert_eq!(urls.url(&image, at(NOW)), format!("https://cdn.example/a/images/{}.png", image.image_id));
        assert!(urls.variant_url(&image, "w=64", at(NOW)).ends_with(".png?w=64"));
    }
}

#[test]
fn signed_url_counts_until_the_image_expires() {
    let (image, urls) = (metadata(), ImageUrls::signed("http://localhost", keys(&["new", "old"]), None));
    for variant in ["", "w=64&format=auto"] {
        let url = urls.variant_url(&image, variant, at(NOW));
        assert!(url.contains("key=new"), "{url}");
        let expires = verify(&urls, &url, variant, NOW).expect("valid");
        assert_eq!(expires, at(NOW + 3601));
        assert!(verify(&urls, &url, variant, NOW + 3600).is_ok());
        assert!(verify(&urls, &url, variant, NOW + 3601).is_err());
    }
}

#[test]
fn signed_url_with_a_life_counts_no_longer() {
    let image = metadata();
    let urls = ImageUrls::signed("http://localhost", keys(&["k"]), Some(Duration::from_secs(60)));
    let url = urls.url(&image, at(NOW));
    assert!(verify(&urls, &url, "", NOW + 60).is_ok());
    assert!(verify(&urls, &url, "", NOW + 61).is_err());
    let late = urls.url(&image, at(NOW + 3590));
    assert_eq!(verify(&urls, &late, "", NOW + 3590), Ok(at(NOW + 3601)), "not beyond the image");
}

#[test]
fn keys_are_rotated_without_a_break() {
    let image = metadata();
    let old = ImageUrls::signed("http://localhost", keys(&["old"]), None);
    let both = ImageUrls::signed("http://localhost", keys(&["new", "old"]), None);
    let new = ImageUrls::signed("http://localhost", keys(&["new"]), None);
    let (old_url, new_url) = (old.url(&image, at(NOW)), both.url(&image, at(NOW)));
    assert!(verify(&both, &old_url, "", NOW).is_ok());
    assert!(verify(&new, &new_url, "", NOW).is_ok());
    assert!(verify(&new, &old_url, "", NOW).is_err());
    assert!(verify(&old, &new_url, "", NOW).is_err());
}

#[test]
fn signature_for_something_else_is_none() {
    let (image, other) = (metadata(), metadata());
    let urls = ImageUrls::signed("http://localhost", keys(&["k"]), None);
    let url = urls.variant_url(&image, "w=64", at(NOW));
    let (path, [expires, key, signature]) = parts(&url);
    let check = |path: &str, variant: &str, expires: &str, key: &str, signature: &str| {
        urls.verify(path, variant, Signature { expires, key, signature }, at(NOW)).is_ok()
    };
    assert!(check(&path, "w=64", &expires, &key, &signature));
    assert!(!check(&format!("/images/{}", other.file_name()), "w=64", &expires, &key, &signature));
    assert!(!check(&path, "", &expires, &key, &signature));
    assert!(!check(&path, "w=128", &expires, &key, &signature));
    assert!(!check(&path, "w=64", "99999999999", &key, &signature));
    assert!(!check(&path, "w=64", &expires, "other", &signature));
    for forged in ["", "A", &signature[1..], &format!("{signature}A"), &format!("{signature}="), "é"] {
        assert!(!check(&path, "w=64", &expires, &key, forged), "{forged}");
    }
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    assert!(!check(&path, "w=64", &expires, &key, &format!("{flipped}{}", &signature[1..])));
}

#[test]
fn debug_shows_no_secret() {
    let urls = ImageUrls::signed("http://localhost", keys(&["k"]), None);
    assert!(!format!("{urls:?} {:?}", key("k")).contains("ssss"));
}

#[test]
fn mac_is_that_of_the_standard() {
    // RFC 4231, test cases 2 and 6.
    for (key, data, expected) in [
        (
            &b"Jefe"[..],
            "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 131],
            "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ] {
        let tag = keyed(key).chain_update(data).finalize().into_bytes();
        assert_eq!(tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }
}

//! How images are delivered: from memory, in variants, signed, through a CDN.

use url::Url;

use super::{
    Default, Kind,
    reader::{Reader, Refused},
    syntax,
    variable::{one_line, variables},
};
use crate::{
    image::{ImageUrls, Limits, SigningKey},
    images::{Config, Cors, PurgeConfig, Sizes},
    secret::Secret,
};

/// Sizes of variants at most: each is more that may have to be made.
const MAX_SIZES: usize = 32;
/// The least and the largest size of a variant.
const SIZES: std::ops::RangeInclusive<u32> = 16..=4096;
/// A key that is guessed protects nothing.
const MIN_SECRET_BYTES: usize = 32;

variables! {
    IMAGE_CACHE_BYTES: Kind::Integer { min: 0, max: 1_099_511_627_776, unit: "bytes" },
        Default::Value("67108864"),
        "Images and variants that may be in memory, to be sent again; 0 keeps none. An image of more than an \
         eighth of it always comes from the store.";
    IMAGE_VARIANT_SIZES: Kind::Text("1 to 32 whole numbers of pixels from 16 to 4096, separated by commas"),
        Default::Value("64,128,256,320,512,640,768,1024,1536,2048"),
        "Widths and heights in which images may be asked for (`?w=`, `?h=`).";
    VARIANT_CONCURRENCY: Kind::Integer { min: 1, max: 1024, unit: "variants" },
        Default::Derived("half the number of cores, 1 at least"),
        "Variants of images that are made at a time. Each takes up to 16 bytes of memory a pixel of the original.";
    IMAGE_URL_SIGNING_KEYS: Kind::Secret("`id:secret` pairs separated by commas; ids of 1 to 32 letters, digits, \
                                          `-` and `_`; secrets of at least 32 visible ASCII characters without commas"),
        Default::Unset,
        "With keys, images are given out only under signed URLs. The first key signs, each of them is accepted: put \
         a new one in front, and take the old one away when its URLs are over.";
    IMAGE_URL_TTL: Kind::Seconds { min: 1.0, max: 315_360_000.0 },
        Default::Unset,
        "How long a signed URL counts; without it, as long as the image lives.";
    IMAGE_CDN_BASE_URL: Kind::Text("an http or https URL that clients can reach, without credentials, query and \
                                    fragment"),
        Default::Unset,
        "What image URLs start with instead of PUBLIC_BASE_URL: a CDN in front of this server. Its host is allowed \
         to ask, too.";
    IMAGE_PURGE_WEBHOOK: Kind::Text("an http or https URL without credentials and fragment"),
        Default::Unset,
        "Is told by POST which images were deleted or expired, so that a CDN can be purged. Needs \
         IMAGE_PURGE_SECRET.";
    IMAGE_PURGE_SECRET: Kind::Secret("at least 16 visible ASCII characters; after `whsec_`, base64 of the key"),
        Default::Unset,
        "Signs what is sent to IMAGE_PURGE_WEBHOOK, as the Standard Webhooks specification has it.";
    CORS_ALLOWED_ORIGINS: Kind::Text("origins, separated by commas (`https://app.example`), or `*` for every one"),
        Default::Unset,
        "Web pages whose scripts may read images. Showing them with `<img>` needs no entry here.";
}

/// Reads the delivery of images; and the base URL of a CDN, if there is one.
pub(super) fn read(reader: &mut Reader, public_base_url: &str, limits: Limits) -> (Config, Option<String>) {
    let cdn = reader.take(&IMAGE_CDN_BASE_URL, syntax::base_url);
    let base_url = cdn.as_deref().unwrap_or(public_base_url);
    let keys = reader.take(&IMAGE_URL_SIGNING_KEYS, signing_keys).unwrap_or_default();
    let life = reader.seconds(&IMAGE_URL_TTL);
    if life.is_some() && !reader.is_given(&IMAGE_URL_SIGNING_KEYS) {
        reader.warn("IMAGE_URL_TTL has no effect without IMAGE_URL_SIGNING_KEYS");
    }
    if cdn.is_some() && !keys.is_empty() {
        reader.warn(
            "IMAGE_URL_SIGNING_KEYS makes images private, so the CDN at IMAGE_CDN_BASE_URL keeps none of them",
        );
    }
    let config = Config {
        cache_bytes: reader.integer(&IMAGE_CACHE_BYTES).unwrap_or_default(),
        variant_sizes: reader.take(&IMAGE_VARIANT_SIZES, sizes).unwrap_or_else(|| Sizes::new(Vec::new())),
        variant_concurrency: variant_concurrency(reader),
        limits,
        urls: ImageUrls::signed(base_url, keys, life),
        cdn: cdn.is_some(),
        cors: cors(reader),
        purge: purge(reader, base_url),
    };
    (config, cdn)
}

fn variant_concurrency(reader: &mut Reader) -> usize {
    let derived = (reader.machine.cores / 2).max(1);
    if !reader.is_given(&VARIANT_CONCURRENCY) {
        reader.derived(&VARIANT_CONCURRENCY, derived);
    }
    reader.integer(&VARIANT_CONCURRENCY).unwrap_or(derived)
}

fn sizes(text: &str) -> Result<Sizes, Refused> {
    let size = |text: &str| {
        let text = text.trim();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let size = digits.then(|| text.parse().ok()).flatten().filter(|size| SIZES.contains(size));
        size.ok_or_else(|| Some(format!("`{}` is none", one_line(text, 32))))
    };
    let sizes = Sizes::new(text.split(',').map(size).collect::<Result<_, _>>()?);
    if sizes.as_slice().len() > MAX_SIZES { Err(None) } else { Ok(sizes) }
}

fn signing_keys(text: &str) -> Result<Vec<SigningKey>, Refused> {
    let mut keys: Vec<SigningKey> = Vec::new();
    for (index, pair) in text.split(',').map(str::trim).enumerate() {
        // Neither half is repeated: either may be a secret in the wrong place.
        let refused = |what: &str| Some(format!("key {}: {what}", index + 1));
        let (id, secret) = pair.split_once(':').ok_or_else(|| refused("there is no `:` in it"))?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if id.is_empty() || id.len() > 32 || !id.bytes().all(legal) {
            return Err(refused("its id is not 1 to 32 letters, digits, `-` and `_`"));
        }
        if secret.len() < MIN_SECRET_BYTES || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("its secret is not at least 32 visible ASCII characters"));
        }
        if keys.iter().any(|key| key.id == id) {
            return Err(refused("its id is there twice"));
        }
        keys.push(SigningKey { id: id.to_owned(), secret: Secret::new(secret) });
    }
    Ok(keys)
}

fn cors(reader: &mut Reader) -> Cors {
    let cors = reader.take(&CORS_ALLOWED_ORIGINS, |text| {
        if text.trim() == "*" {
            return Ok(Cors::Everyone);
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(Cors::These(items.map(syntax::origin).collect::<Result<_, _>>()?))
    });
    cors.unwrap_or_default()
}

fn purge(reader: &mut Reader, base_url: &str) -> Option<PurgeConfig> {
    let url = reader.take(&IMAGE_PURGE_WEBHOOK, webhook);
    let secret = reader.take(&IMAGE_PURGE_SECRET, |text| {
        let long_enough = text.len() >= 16;
        let secret = syntax::token(text).ok().filter(|_| long_enough).ok_or(None)?;
        let encoded = secret.strip_prefix("whsec_");
        if encoded.is_some_and(|text| base64_simd::STANDARD.decode_to_vec(text).is_err()) {
            return Err(Some("what follows `whsec_` is not base64".to_owned()));
        }
        Ok(Secret::new(secret))
    });
    if reader.is_given(&IMAGE_PURGE_WEBHOOK) && !reader.is_given(&IMAGE_PURGE_SECRET) {
        reader.missing(&IMAGE_PURGE_SECRET, "IMAGE_PURGE_WEBHOOK needs a secret to sign with");
    }
    Some(PurgeConfig { url: url?, secret: secret?, base_url: base_url.to_owned() })
}

/// A URL that may have a query.
fn webhook(text: &str) -> Result<Url, Refused> {
    let url = Url::parse(text).map_err(|error| Some(error.to_string()))?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if fits { Ok(url) } else { Err(None) }
}

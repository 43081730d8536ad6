//! Where clients get an image: the one place where URLs are made, and signatures in them checked.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hmac13::{Hmac, KeyInit, Mac, digest::Key};
use sha2::{Digest, Sha256};

use super::Metadata;
use crate::secret::Secret;

/// What a signature is about besides path, variant and expiry: that it is one of these.
const PURPOSE: &str = "mcp-image-url-v1";

/// A key that signs URLs.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// Its name, which stands in the URL.
    pub id: String,
    /// Known to this server and its replicas alone.
    pub secret: Secret,
}

/// What a signed URL brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// `exp`: seconds since 1970 up to which the URL counts.
    pub expires: &'a str,
    /// `key`: the key's id.
    pub key: &'a str,
    /// `sig`: HMAC-SHA256 in base64url without padding.
    pub signature: &'a str,
}

/// The URL is not signed, not by a known key, not for this variant, or its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid signature")]
pub struct BadSignature;

/// Makes the URLs of images, signed if there are keys. Cheap to clone.
#[derive(Clone)]
pub struct ImageUrls(Arc<Inner>);

struct Inner {
    base: String,
    /// Names, and MACs that have taken in the key.
    keys: Vec<(String, Hmac<Sha256>)>,
    life: Option<TimeDelta>,
}

impl fmt::Debug for ImageUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageUrls").field("base", &self.0.base).field("signed", &self.is_signed()).finish()
    }
}

impl ImageUrls {
    /// URLs that start with `base` and count as long as the image lives.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self::signed(base, Vec::new(), None)
    }

    /// URLs that start with `base` and are signed by the first of `keys`; each of them is accepted.
    /// With a `life` they count no longer than that. Without keys, nothing is signed.
    #[must_use]
    pub fn signed(base: &str, keys: Vec<SigningKey>, life: Option<Duration>) -> Self {
        let keys = keys.into_iter().map(|SigningKey { id, secret }| (id, keyed(secret.expose().as_bytes())));
        let keys = keys.collect();
        let base = base.trim_end_matches('/').to_owned();
        let life = life.and_then(|life| TimeDelta::from_std(life).ok());
        Self(Arc::new(Inner { base, keys, life }))
    }

    /// The same, but the URLs start with `base`.
    #[must_use]
    pub fn with_base(&self, base: &str) -> Self {
        let Inner { keys, life, .. } = &*self.0;
        let base = base.trim_end_matches('/').to_owned();
        Self(Arc::new(Inner { base, keys: keys.clone(), life: *life }))
    }

    /// Whether images are given out only under signed URLs.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.0.keys.is_empty()
    }

    /// The URL of an image as it is.
    #[must_use]
    pub fn url(&self, metadata: &Metadata, now: DateTime<Utc>) -> String {
        self.variant_url(metadata, "", now)
    }

    /// The URL of a variant; `variant` is the query that asks for it, in its one spelling.
    #[must_use]
    pub fn variant_url(&self, metadata: &Metadata, variant: &str, now: DateTime<Utc>) -> String {
        let path = format!("/images/{}", metadata.file_name());
        let mut url = format!("{}{path}", self.0.base);
        let mut separator = '?';
        if !variant.is_empty() {
            url.extend([&separator.to_string(), variant]);
            separator = '&';
        }
        if let Some((id, key)) = self.0.keys.first() {
            let life = self.0.life.and_then(|life| now.checked_add_signed(life));
            let expires = life.map_or(metadata.expires_at, |end| end.min(metadata.expires_at));
            let expires = (expires.timestamp() + 1).to_string();
            let tag = mac(key, &path, variant, &expires).finalize().into_bytes();
            let signature = base64_simd::URL_SAFE_NO_PAD.encode_to_string(tag);
            url += &format!("{separator}exp={expires}&key={id}&sig={signature}");
        }
        url
    }

    /// Checks the signature of a request for `path` and `variant`, in constant time. Gives the moment
    /// up to which the URL counts.
    ///
    /// # Errors
    /// [`BadSignature`], whatever is wrong with it.
    pub fn verify(
        &self,
        path: &str,
        variant: &str,
        signature: Signature<'_>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, BadSignature> {
        let (_, key) = self.0.keys.iter().find(|(id, _)| id == signature.key).ok_or(BadSignature)?;
        let tag =
            base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature.signature).map_err(|_| BadSignature)?;
        mac(key, path, variant, signature.expires).verify_slice(&tag).map_err(|_| BadSignature)?;
        // What was signed is what this server wrote, so it is a number.
        let seconds = signature.expires.parse().map_err(|_| BadSignature)?;
        let expires = DateTime::from_timestamp(seconds, 0).ok_or(BadSignature)?;
        if expires > now { Ok(expires) } else { Err(BadSignature) }
    }
}

fn mac(key: &Hmac<Sha256>, path: &str, variant: &str, expires: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [PURPOSE, path, variant, expires] {
        mac.update(part.as_bytes());
        // No part has a line end, so no two sets of parts come to the same text.
        mac.update(b"\n");
    }
    mac
}

/// HMAC takes keys of any length: shorter than a block they are filled up with zeros, longer ones
/// are hashed (RFC 2104, section 2).
fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    let mut block = Key::<Hmac<Sha256>>::default();
    let hashed;
    let bytes = if secret.len() <= block.len() {
        secret
    } else {
        hashed = Sha256::digest(secret);
        &hashed[..]
    };
    block[..bytes.len()].copy_from_slice(bytes);
    Hmac::new(&block)
}

#[cfg(test)]
mod tests;

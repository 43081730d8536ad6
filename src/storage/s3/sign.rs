//! Signature Version 4, by rust-s3's parts.
//!
//! Requests are signed by header, not by URL: their body's hash is signed too, so the other side
//! refuses a body that was cut or changed on the way, and no URL in any log is a capability.

use std::{collections::HashMap, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use s3::{region::Region, signing};
use time::OffsetDateTime;
use url::Url;

use super::{S3Credentials, endpoint::authority, error::Failure};

/// SHA-256 of nothing.
pub(super) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Signs for one region.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    region: Region,
}

impl Signer {
    pub(super) fn new(region: &str) -> Self {
        // Spelled as it was given: rust-s3 knows some names as short forms of other ones.
        Self { region: Region::Custom { region: region.to_owned(), endpoint: String::new() } }
    }

    /// Adds to `headers` what makes the request a signed one. `sha256` is that of its body, in
    /// lower-case hex.
    pub(super) fn sign(
        &self,
        keys: &S3Credentials,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
        sha256: &str,
        now: SystemTime,
    ) -> Result<(), Failure> {
        let (now, stamp) = moment(now)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Failure::Signing);
        headers.insert(header::HOST, value(&authority(url))?);
        headers.insert(AMZ_DATE, value(&stamp)?);
        headers.insert(AMZ_CONTENT_SHA256, value(sha256)?);
        if let Some(token) = &keys.session_token {
            headers.insert(AMZ_SECURITY_TOKEN, value(token.expose())?);
        }
        let signature = self.signature(keys, method, url, headers, sha256, &now)?;
        let signed = signing::signed_header_string(headers);
        let id = keys.access_key_id.expose();
        let authorization = signing::authorization_header(id, &now, &self.region, &signed, &signature);
        headers.insert(header::AUTHORIZATION, value(&authorization.map_err(|_| Failure::Signing)?)?);
        for name in [header::AUTHORIZATION, AMZ_SECURITY_TOKEN] {
            if let Some(value) = headers.get_mut(name) {
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    /// A URL that anyone may get for `seconds`, with `overrides` of the answer's headers.
    pub(super) fn presign(
        &self,
        keys: &S3Credentials,
        url: &Url,
        overrides: HashMap<String, String>,
        seconds: u32,
        now: SystemTime,
    ) -> Result<String, Failure> {
        let (now, _) = moment(now)?;
        let token = keys.session_token.as_ref().map(|token| token.expose().to_owned());
        let id = keys.access_key_id.expose();
        let query =
            signing::authorization_query_params_no_sig(id, &now, &self.region, seconds, None, token.as_ref())
                .and_then(|query| Ok(query + &signing::flatten_queries(Some(&overrides))?))
                .map_err(|_| Failure::Signing)?;
        let url = Url::parse(&format!("{url}{query}")).map_err(|_| Failure::Signing)?;
        let host = HeaderValue::from_str(&authority(&url)).map_err(|_| Failure::Signing)?;
        let headers = HeaderMap::from_iter([(header::HOST, host)]);
        let signature = self.signature(keys, &Method::GET, &url, &headers, "UNSIGNED-PAYLOAD", &now)?;
        Ok(format!("{url}&X-Amz-Signature={signature}"))
    }

    fn signature(
        &self,
        keys: &S3Credentials,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        sha256: &str,
        now: &OffsetDateTime,
    ) -> Result<String, Failure> {
        use hmac::Mac as _;
        let signed = || -> Result<_, s3::error::S3Error> {
            let request = signing::canonical_request(method.as_str(), url, headers, sha256)?;
            let text = signing::string_to_sign(now, &self.region, &request)?;
            let key = signing::signing_key(now, keys.secret_access_key.expose(), &self.region, "s3")?;
            let mut mac = signing::HmacSha256::new_from_slice(&key)?;
            mac.update(text.as_bytes());
            Ok(mac.finalize().into_bytes())
        };
        // The error's own words may hold what was to be signed.
        Ok(hex(&signed().map_err(|_| Failure::Signing)?))
    }
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A moment as rust-s3 takes it, and as a header has it.
fn moment(now: SystemTime) -> Result<(OffsetDateTime, String), Failure> {
    let seconds = chrono::DateTime::<chrono::Utc>::from(now);
    let moment = OffsetDateTime::from_unix_timestamp(seconds.timestamp()).map_err(|_| Failure::Signing)?;
    Ok((moment, seconds.format("%Y%m%dT%H%M%SZ").to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    /// The keys and the moment of the examples in AWS's documentation of Signature Version 4.
    fn example() -> (Signer, S3Credentials, Url, SystemTime) {
        let keys = S3Credentials {
            access_key_id: Secret::new("AKIAIOSFODNN7EXAMPLE"),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").expect("a URL");
        (Signer::new("us-east-1"), keys, url, SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600))
    }

    #[test]
    fn signature_is_that_of_the_documented_example() {
        let (signer, keys, url, now) = example();
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-9"))]);
        signer.sign(&keys, &Method::GET, &url, &mut headers, EMPTY_SHA256, now).expect("signed");
        let authorization = &headers[header::AUTHORIZATION];
        let text = authorization.to_str().expect("text");
        assert!(text.contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"), "{text}");
        let signature = "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(text.ends_with(signature), "{text}");
        assert!(authorization.is_sensitive());
    }

    #[test]
    fn signed_url_is_that_of_the_documented_example() {
        let (signer, keys, url, now) = example();
        let signed = signer.presign(&keys, &url, HashMap::new(), 86_400, now).expect("signed");
        let signature = "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(signed.contains("&X-Amz-Expires=86400&") && signed.ends_with(signature), "{signed}");
    }

    #[test]
    fn token_of_temporary_keys_is_signed_and_sensitive() {
        let (signer, mut keys, url, now) = example();
        keys.session_token = Some(Secret::new("token"));
        let mut headers = HeaderMap::new();
        signer.sign(&keys, &Method::PUT, &url, &mut headers, EMPTY_SHA256, now).expect("signed");
        assert!(headers["x-amz-security-token"].is_sensitive());
        let text = headers[header::AUTHORIZATION].to_str().expect("text");
        assert!(text.contains("x-amz-security-token,"), "{text}");
        let signed = signer.presign(&keys, &url, HashMap::new(), 60, now).expect("signed");
        assert!(signed.contains("&X-Amz-Security-Token=token"));
    }
}

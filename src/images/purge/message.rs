use bytes::Bytes;
use hmac13::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::Reason;
use crate::{image::ImageId, secret::Secret};

/// One message, the same in every try but for time and signature.
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Bytes,
}

impl Message {
    pub(super) fn new(reason: Reason, ids: &[ImageId], base_url: &str) -> Self {
        let images: Vec<_> = ids
            .iter()
            .map(|id| json!({"image_id": id, "cache_tag": id, "url_prefix": format!("{base_url}/images/{id}")}))
            .collect();
        let kind = match reason {
            Reason::Deleted => "image.deleted",
            Reason::Expired => "image.expired",
        };
        let body = json!({
            "type": kind,
            "timestamp": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "data": {"images": images},
        });
        Self { id: format!("msg_{}", uuid::Uuid::now_v7().simple()), body: body.to_string().into() }
    }

    /// `v1,` and the signature for a try at `timestamp`.
    pub(super) fn signature(&self, secret: &Secret, timestamp: i64) -> String {
        let decoded = secret
            .expose()
            .strip_prefix("whsec_")
            .and_then(|text| base64_simd::STANDARD.decode_to_vec(text).ok());
        let key = decoded.as_deref().unwrap_or(secret.expose().as_bytes());
        // HMAC takes keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
        let mac = mac.chain_update(format!("{}.{timestamp}.", self.id)).chain_update(&self.body);
        format!("v1,{}", base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_specification() {
        // The example of Standard Webhooks' own libraries.
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            body: Bytes::from_static(b"{\"test\": 2432232314}"),
        };
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(
            message.signature(&secret, 1_614_265_330),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn message_names_what_is_gone() {
        let id = ImageId::now();
        let message = Message::new(Reason::Expired, &[id], "https://cdn.example");
        let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!(body["type"], "image.expired");
        assert_eq!(
            body["data"]["images"],
            json!([{
                "image_id": id.to_string(),
                "cache_tag": id.to_string(),
                "url_prefix": format!("https://cdn.example/images/{id}"),
            }])
        );
        assert_ne!(message.id, Message::new(Reason::Expired, &[id], "x").id);
    }
}

//! An image that the backend delivers itself.

use http::{HeaderValue, Response, StatusCode, header};
use layers::Body;

use super::error::Error;
use crate::storage::{self, Redirect};

/// A 307 to the backend's URL. It may be kept, by this client alone, for half of the time that the
/// URL is good for.
pub(super) fn respond(redirect: &Redirect) -> Result<Response<Body>, Error> {
    let field = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| storage::Error::Corrupt {
            id: redirect.metadata.image_id,
            reason: "its URL has characters that no header field can have".to_owned(),
        })
    };
    let mut location = field(&redirect.url)?;
    location.set_sensitive(true);
    let max_age = redirect.life.as_secs() / 2;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, field(&format!("private, max-age={max_age}"))?);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::Utc;

    use super::*;
    use crate::image::{Format, Generation, ImageId, Metadata};

    fn redirect(url: &str) -> Redirect {
        let metadata = Metadata {
            image_id: ImageId::now(),
            format: Format::Png,
            width: 1,
            height: 1,
            size_bytes: 1,
            blake3: String::new(),
            created_at: Utc::now(),
            expires_at: Utc::now(),
            thumbhash: None,
            generation: Generation {
                prompt: String::new(),
                negative_prompt: None,
                num_inference_steps: 1,
                guidance_scale: 1.0,
                seed: None,
                model: String::new(),
                predictor: String::new(),
                generation_seconds: 0.0,
            },
        };
        Redirect { metadata, url: url.to_owned(), life: Duration::from_secs(61) }
    }

    #[test]
    fn redirect_names_the_url_and_is_kept_no_longer_than_it() {
        let response = respond(&redirect("https://s3.example/a?X=1")).expect("a response");
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(response.headers()[header::LOCATION], "https://s3.example/a?X=1");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "private, max-age=30");
    }

    #[test]
    fn redirect_to_what_is_no_url_is_refused() {
        assert!(respond(&redirect("https://s3.example/\r\nx: y")).is_err());
    }
}

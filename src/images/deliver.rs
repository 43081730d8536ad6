use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use layers::Body;

use super::{
    conditional::{Validators, Verdict, evaluate, range_applies},
    entity_tag::EntityTag,
    error::Error,
    range::RangeSpec,
    redirect,
};
use crate::{
    image::{Format, ImageId, Metadata},
    storage::{self, ImageStore},
};

/// The image that a path names, and the format that its extension asks for.
pub(super) type Target = (ImageId, Option<Format>);

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Header fields by which a request makes itself conditional on the image's state.
const CONDITIONS: [HeaderName; 3] = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];

pub(super) async fn get(
    store: &dyn ImageStore,
    request: &Parts,
    target: Target,
) -> Result<Response<Body>, Error> {
    if let Some(redirect) = store.redirect(target.0).await? {
        let representation = Representation::new(&redirect.metadata, target)?;
        return match representation.precondition(request)? {
            Some(response) => Ok(response),
            None => redirect::respond(&redirect),
        };
    }
    let opened = store.open(target.0).await?;
    let representation = Representation::new(&opened.metadata, target)?;
    if let Some(response) = representation.precondition(request)? {
        return Ok(response);
    }
    let (mut response, range) = match representation.range(request)? {
        Some(range) => (representation.part(&range)?, range),
        None => (representation.whole(), 0..representation.length),
    };
    let id = target.0;
    let chunks = opened.content.stream(range).await?;
    *response.body_mut() = Body::stream(chunks.inspect_err(move |error| {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(image_id = %id, %error, cause, "an image broke off while it was sent");
    }));
    Ok(response)
}

/// `Range` is defined for GET alone (RFC 9110, section 14.2).
pub(super) async fn head(
    store: &dyn ImageStore,
    request: &Parts,
    target: Target,
) -> Result<Response<Body>, Error> {
    let metadata = store.metadata(target.0).await?;
    let representation = Representation::new(&metadata, target)?;
    Ok(representation.precondition(request)?.unwrap_or_else(|| representation.whole()))
}

pub(super) async fn delete(
    store: &dyn ImageStore,
    request: &Parts,
    target: Target,
) -> Result<Response<Body>, Error> {
    let (id, format) = target;
    if format.is_some() || CONDITIONS.iter().any(|name| request.headers.contains_key(name)) {
        let metadata = store.metadata(id).await?;
        Representation::new(&metadata, target)?.precondition(request)?;
    }
    if !store.delete(id).await? {
        return Err(Error::NotFound);
    }
    tracing::info!(image_id = %id, "image deleted on request");
    Ok(empty(StatusCode::NO_CONTENT))
}

/// An image as it stands to be delivered now.
struct Representation {
    format: Format,
    length: u64,
    /// The entity tag, without its quotes.
    opaque_tag: Vec<u8>,
    last_modified: SystemTime,
    /// Header fields that a 200, a 206 and a 304 have in common.
    common: HeaderMap,
    disposition: HeaderValue,
}

impl Representation {
    fn new(metadata: &Metadata, (_, format): Target) -> Result<Self, Error> {
        let now = Utc::now();
        if metadata.is_expired(now) || format.is_some_and(|format| format != metadata.format) {
            return Err(Error::NotFound);
        }
        let corrupt = || storage::Error::Corrupt {
            id: metadata.image_id,
            reason: "its metadata has characters that no header field can have".to_owned(),
        };
        let field = |text: String| HeaderValue::try_from(text).map_err(|_| corrupt());
        let entity_tag = metadata.entity_tag();
        let opaque_tag = EntityTag::parse(entity_tag.as_bytes()).ok_or_else(corrupt)?.opaque.to_vec();
        let last_modified = whole_second(metadata.created_at, now);
        let max_age = (metadata.expires_at - now).num_seconds().max(0);
        let common = HeaderMap::from_iter([
            (header::ETAG, field(entity_tag)?),
            (header::LAST_MODIFIED, field(httpdate::fmt_http_date(last_modified))?),
            (header::CACHE_CONTROL, field(format!("public, max-age={max_age}, immutable"))?),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
            (CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin")),
        ]);
        let disposition = field(format!("inline; filename=\"{}\"", metadata.file_name()))?;
        let (format, length) = (metadata.format, metadata.size_bytes);
        Ok(Self { format, length, opaque_tag, last_modified, common, disposition })
    }

    fn validators(&self) -> Validators<'_> {
        let entity_tag = EntityTag { weak: false, opaque: &self.opaque_tag };
        Validators { entity_tag, last_modified: self.last_modified }
    }

    /// The 304, if the request's conditions come to that.
    fn precondition(&self, request: &Parts) -> Result<Option<Response<Body>>, Error> {
        match evaluate(&request.method, &request.headers, self.validators()) {
            Verdict::Proceed => Ok(None),
            Verdict::Failed => Err(Error::PreconditionFailed),
            Verdict::NotModified => {
                let mut response = empty(StatusCode::NOT_MODIFIED);
                *response.headers_mut() = self.common.clone();
                Ok(Some(response))
            }
        }
    }

    /// The one range that the request asks for; `None` for the whole.
    fn range(&self, request: &Parts) -> Result<Option<Range<u64>>, Error> {
        let mut fields = request.headers.get_all(header::RANGE).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return Ok(None) };
        let Some(spec) = RangeSpec::parse(field.as_bytes()) else { return Ok(None) };
        if !range_applies(&request.headers, self.validators()) {
            return Ok(None);
        }
        spec.resolve(self.length).map(Some).map_err(|_| Error::Unsatisfiable { length: self.length })
    }

    fn whole(&self) -> Response<Body> {
        let mut response = empty(StatusCode::OK);
        *response.headers_mut() = self.content_headers(self.length);
        response
    }

    fn part(&self, range: &Range<u64>) -> Result<Response<Body>, Error> {
        let Range { start, end } = range;
        let mut response = empty(StatusCode::PARTIAL_CONTENT);
        *response.headers_mut() = self.content_headers(end - start);
        let content_range = format!("bytes {start}-{}/{}", end - 1, self.length);
        let content_range =
            HeaderValue::try_from(content_range).map_err(|_| Error::Unsatisfiable { length: self.length })?;
        response.headers_mut().insert(header::CONTENT_RANGE, content_range);
        Ok(response)
    }

    fn content_headers(&self, length: u64) -> HeaderMap {
        let mut headers = self.common.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.format.media_type()));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::CONTENT_DISPOSITION, self.disposition.clone());
        headers
    }
}

/// `created`, to the second and as a date can be written; not in the future (RFC 9110, section
/// 8.8.2.1), where another replica's clock may be.
fn whole_second(created: DateTime<Utc>, now: DateTime<Utc>) -> SystemTime {
    let seconds = u64::try_from(created.min(now).timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use layers::{Body, client_addr::ClientAddr, send_file::FileSender};

use super::{
    Delivery,
    asked::{Asked, Wanted},
    conditional::{Validators, Verdict, evaluate, range_applies},
    disposition,
    error::Error,
    fields::{self, CacheControl},
    original::Original,
    originals::Source,
    range::RangeSpec,
    redirect, variants,
};
use crate::{
    image::{Format, ImageId, VariantFormat},
    storage::Content,
};

/// The image that a path names, and the format that its extension asks for.
pub(super) type Target = (ImageId, Option<Format>);

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Header fields by which a request makes itself conditional on the image's state.
const CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_MODIFIED_SINCE];

/// What the request was let in by, as far as caches must know.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grant {
    /// A credential or a signature was needed: not for caches that others share.
    pub(super) private: bool,
    /// When the signature's time is over.
    pub(super) until: Option<DateTime<Utc>>,
}

/// Answers GET and HEAD.
pub(super) async fn read(
    delivery: &Delivery,
    request: &Parts,
    target: Target,
    asked: &Asked,
    grant: Grant,
) -> Result<Response<Body>, Error> {
    let now = Utc::now();
    let view = View { delivery, request, target, asked, grant, now };
    match asked.variant {
        // Its work is large and so is its future, which the original's would make room for.
        Some(wanted) => Box::pin(view.variant(wanted)).await,
        None => view.original().await,
    }
}

pub(super) async fn delete(
    delivery: &Delivery,
    request: &Parts,
    target: Target,
) -> Result<Response<Body>, Error> {
    let (id, format) = target;
    if format.is_some() || is_conditional(&request.headers) {
        let original = delivery.originals().find(id, Utc::now()).await?;
        if format.is_some_and(|format| format != original.metadata.format) {
            return Err(Error::NotFound);
        }
        let current = original.validators(&original.entity_tag);
        if evaluate(&request.method, &request.headers, current) != Verdict::Proceed {
            return Err(Error::PreconditionFailed);
        }
    }
    if !delivery.delete(id).await? {
        return Err(Error::NotFound);
    }
    tracing::info!(image_id = %id, "image deleted on request");
    Ok(empty(StatusCode::NO_CONTENT))
}

/// One request for an image, at one moment.
struct View<'a> {
    delivery: &'a Delivery,
    request: &'a Parts,
    target: Target,
    asked: &'a Asked,
    grant: Grant,
    now: DateTime<Utc>,
}

impl View<'_> {
    async fn original(&self) -> Result<Response<Body>, Error> {
        let originals = self.delivery.originals();
        let reads_head = self.request.method == Method::HEAD;
        if reads_head || is_conditional(&self.request.headers) {
            let original = originals.find(self.target.0, self.now).await?;
            let representation = self.stored(&original)?;
            if let Some(response) = representation.precondition(self.request)? {
                return Ok(response);
            }
            if reads_head {
                return Ok(representation.whole());
            }
        }
        let sends_files = self.request.extensions.get::<FileSender>().is_some();
        let (original, source) = originals.deliver(self.target.0, self.now, sends_files).await?;
        if let Source::Redirect(redirect) = &source {
            self.check(&original)?;
            return redirect::respond(redirect);
        }
        let (mut response, range) = self.stored(&original)?.answer(self.request)?;
        *response.body_mut() = match source {
            Source::Redirect(_) => Body::empty(),
            Source::Bytes(bytes) => Body::full(slice(&bytes, &range)),
            Source::Content(content) => self.stream(content, range).await?,
            Source::Open(open) => match open.at_hand(range.clone()) {
                Some(bytes) => Body::full(bytes),
                None => self.stream(open.reader().ok_or(Error::NotFound)?, range).await?,
            },
        };
        Ok(response)
    }

    async fn stream(&self, content: Box<dyn Content>, range: Range<u64>) -> Result<Body, Error> {
        let (id, delivery) = (self.target.0, self.delivery.clone());
        let stream = match self.request.extensions.get::<FileSender>() {
            Some(sender) => content.send(range, sender.clone()).await?,
            None => content.stream(range).await?,
        };
        Ok(Body::stream(stream.inspect_err(move |error| {
            // Whoever asks next looks at the image anew.
            delivery.originals().close(id);
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(image_id = %id, %error, cause, "an image broke off while it was sent");
        })))
    }

    async fn variant(&self, wanted: Wanted) -> Result<Response<Body>, Error> {
        let original = self.delivery.originals().find(self.target.0, self.now).await?;
        self.check(&original)?;
        let spec = wanted.resolve(original.metadata.format, &self.request.headers, self.delivery.sizes());
        let entity_tag = variants::entity_tag(&original, &spec).ok_or(Error::NotFound)?;
        let mut representation = Representation {
            original: &original,
            entity_tag,
            format: spec.format,
            length: 0,
            stored: false,
            negotiated: wanted.is_negotiated(),
            shared: self.shared(&original),
            disposition: self.disposition(&original, spec.format),
        };
        // The tag is known without the work.
        if let Some(response) = representation.precondition(self.request)? {
            return Ok(response);
        }
        let client = self.request.extensions.get().map(ClientAddr::key);
        let bytes = self.delivery.variants().get(&original, spec, self.now, client).await?;
        representation.length = bytes.len() as u64;
        let (mut response, range) = representation.answer(self.request)?;
        *response.body_mut() = Body::full(slice(&bytes, &range));
        Ok(response)
    }

    /// The image as it is stored.
    fn stored<'o>(&self, original: &'o Original) -> Result<Representation<'o>, Error> {
        self.check(original)?;
        Ok(Representation {
            original,
            entity_tag: original.entity_tag.clone(),
            format: original.metadata.format.into(),
            length: original.metadata.size_bytes,
            stored: !self.asked.download,
            negotiated: false,
            shared: self.shared(original),
            disposition: self.disposition(original, original.metadata.format.into()),
        })
    }

    /// Whether the path names this image, and its time is not over.
    fn check(&self, original: &Original) -> Result<(), Error> {
        let metadata = &original.metadata;
        let other_format = self.target.1.is_some_and(|format| format != metadata.format);
        if other_format || metadata.is_expired(self.now) { Err(Error::NotFound) } else { Ok(()) }
    }

    fn shared(&self, original: &Original) -> Sharing {
        let ends = original.metadata.expires_at;
        let ends = self.grant.until.map_or(ends, |until| until.min(ends));
        Sharing {
            private: self.grant.private,
            max_age: (ends - self.now).num_seconds().max(0),
            cdn: self.delivery.has_cdn(),
        }
    }

    fn disposition(&self, original: &Original, format: VariantFormat) -> HeaderValue {
        let metadata = &original.metadata;
        let id = || metadata.image_id.to_string();
        let named = if self.asked.download {
            disposition::attachment(&metadata.generation.prompt, &id(), format.extension())
        } else if format == metadata.format {
            None
        } else {
            HeaderValue::try_from(format!("inline; filename=\"{}.{}\"", id(), format.extension())).ok()
        };
        named.unwrap_or_else(|| original.disposition.clone())
    }
}

/// Who may keep an answer, and for how long.
#[derive(Clone, Copy)]
struct Sharing {
    private: bool,
    max_age: i64,
    cdn: bool,
}

/// An image, or a variant of it, as it stands to be delivered now.
struct Representation<'a> {
    original: &'a Original,
    entity_tag: HeaderValue,
    format: VariantFormat,
    length: u64,
    /// Whether it is the image as it is stored and as it is called.
    stored: bool,
    /// Whether it was chosen by `Accept`.
    negotiated: bool,
    shared: Sharing,
    disposition: HeaderValue,
}

impl Representation<'_> {
    fn validators(&self) -> Validators<'_> {
        self.original.validators(&self.entity_tag)
    }

    /// The 304, if the request's conditions come to that.
    fn precondition(&self, request: &Parts) -> Result<Option<Response<Body>>, Error> {
        match evaluate(&request.method, &request.headers, self.validators()) {
            Verdict::Proceed => Ok(None),
            Verdict::Failed => Err(Error::PreconditionFailed),
            Verdict::NotModified => {
                let mut response = empty(StatusCode::NOT_MODIFIED);
                *response.headers_mut() = self.common();
                Ok(Some(response))
            }
        }
    }

    /// The head of a 200 or a 206, and the bytes that go with it.
    fn answer(&self, request: &Parts) -> Result<(Response<Body>, Range<u64>), Error> {
        match self.range(request)? {
            Some(range) => Ok((self.part(&range)?, range)),
            None => Ok((self.whole(), 0..self.length)),
        }
    }

    /// The one range that the request asks for; `None` for the whole. `Range` is defined for GET alone
    /// (RFC 9110, section 14.2).
    fn range(&self, request: &Parts) -> Result<Option<Range<u64>>, Error> {
        if request.method != Method::GET {
            return Ok(None);
        }
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
        *response.headers_mut() = self.content_headers();
        response
    }

    fn part(&self, range: &Range<u64>) -> Result<Response<Body>, Error> {
        let Range { start, end } = range;
        let mut response = empty(StatusCode::PARTIAL_CONTENT);
        *response.headers_mut() = self.content_headers();
        response.headers_mut().insert(header::CONTENT_LENGTH, (end - start).into());
        let content_range = format!("bytes {start}-{}/{}", end - 1, self.length);
        let content_range =
            HeaderValue::try_from(content_range).map_err(|_| Error::Unsatisfiable { length: self.length })?;
        response.headers_mut().insert(header::CONTENT_RANGE, content_range);
        Ok(response)
    }

    /// Header fields that a 200, a 206 and a 304 have in common.
    fn common(&self) -> HeaderMap {
        let mut headers = fields::common(self.entity_tag.clone(), self.original.last_modified_field.clone());
        self.set_sharing(&mut headers);
        headers
    }

    fn content_headers(&self) -> HeaderMap {
        if self.stored {
            // What is the same each time is copied whole.
            let mut headers = self.original.fields.clone();
            self.set_sharing(&mut headers);
            return headers;
        }
        let mut headers = self.common();
        fields::set_content(&mut headers, self.format.media_type(), self.length, self.disposition.clone());
        headers
    }

    /// Adds who may keep the answer, and for how long.
    fn set_sharing(&self, headers: &mut HeaderMap) {
        let Sharing { private, max_age, cdn } = self.shared;
        let control = if private {
            CacheControl::private(max_age)
        } else {
            self.original.cache_control.public(max_age)
        };
        headers.insert(header::CACHE_CONTROL, control);
        if self.negotiated {
            headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        }
        if cdn && !private {
            headers.insert(SURROGATE_KEY, self.original.tag.clone());
            headers.insert(CACHE_TAG, self.original.tag.clone());
            if let Ok(control) = HeaderValue::try_from(format!("public, max-age={max_age}")) {
                headers.insert(CDN_CACHE_CONTROL, control);
            }
        }
    }
}

/// Whether a request makes itself conditional. Few have many fields: to look at each is cheaper than to look four up.
fn is_conditional(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| CONDITIONS.contains(name))
}

/// The range's part of `bytes`, which it lies within.
fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(range.start)..at(range.end))
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

//! Where images live.

use std::path::PathBuf;

use url::Url;

use super::{
    Default, Kind,
    reader::{Reader, Refused},
    syntax,
    variable::variables,
};
use crate::{cleaner::Quota, secret::Secret, storage};

variables! {
    STORAGE_BACKEND: Kind::Choice(&["file", "memory", "s3"]),
        Default::Value("file"),
        "Where images are kept: a folder, or this process's memory, which is gone with it. `s3` is \
         known, but not in this build.";
    STORAGE_PATH: Kind::Text("a folder; it is made if absent"),
        Default::Value("/tmp/mcp-images"),
        "The folder of the file backend, local or a mounted volume.";
    STORAGE_SYNC: Kind::Switch,
        Default::Value("on"),
        "Whether the file backend waits until the disk has an image before it is handed out. `off` is \
         faster, and a crash of the machine may lose the last images.";
    STORAGE_MEMORY_MAX_BYTES: Kind::Integer { min: 1_048_576, max: 1_099_511_627_776, unit: "bytes" },
        Default::Value("268435456"),
        "Images that the memory backend keeps at most.";
    STORAGE_MAX_IMAGES: Kind::Integer { min: 1, max: 1_000_000_000_000, unit: "images" },
        Default::Unset,
        "Images stored at most, whatever the backend. Beyond it the cleaner removes the oldest before their \
         time, until a twentieth is free again. Left out, there is no such limit.";
    STORAGE_MAX_BYTES: Kind::Integer { min: 1_048_576, max: 1_152_921_504_606_846_976, unit: "bytes" },
        Default::Unset,
        "Bytes of images stored at most, as with STORAGE_MAX_IMAGES.";
    S3_BUCKET: Kind::Text("3 to 63 lower-case letters, digits, dots and hyphens"),
        Default::Unset,
        "The bucket of the S3 backend.";
    S3_PREFIX: Kind::Text("text without a leading slash, empty parts, `.`, `..` and control characters"),
        Default::Value("mcp-images/"),
        "What keys in the bucket start with.";
    S3_ENDPOINT_URL: Kind::Text("an http or https URL without credentials, query and fragment"),
        Default::Unset,
        "The endpoint of MinIO, Ceph and others, addressed by path; without it, AWS.";
    AWS_ACCESS_KEY_ID: Kind::Secret("visible ASCII characters without spaces"),
        Default::Unset,
        "Credentials for S3.";
    AWS_SECRET_ACCESS_KEY: Kind::Secret("visible ASCII characters without spaces"),
        Default::Unset,
        "Credentials for S3.";
    AWS_SESSION_TOKEN: Kind::Secret("visible ASCII characters without spaces"),
        Default::Unset,
        "Credentials for S3, where they are temporary.";
    AWS_REGION: Kind::Text("lower-case letters, digits and hyphens"),
        Default::Value("us-east-1"),
        "The bucket's region.";
}

/// What an S3 backend needs to know.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What keys start with: empty, or with a trailing slash.
    pub prefix: String,
    /// The endpoint of another provider than AWS; then the bucket is addressed by path.
    pub endpoint_url: Option<Url>,
    /// The bucket's region.
    pub region: String,
    /// Who asks; without it, anonymously.
    pub credentials: Option<S3Credentials>,
}

/// Who asks an S3 backend.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
    /// Comes with temporary keys.
    pub session_token: Option<Secret>,
}

/// Reads the storage; the S3 part is there if a bucket is named.
pub(super) fn read(
    reader: &mut Reader,
    public_base_url: &str,
    max_image_bytes: u64,
) -> (storage::Config, Option<S3Config>) {
    let chosen = reader.choice(&STORAGE_BACKEND);
    let path = reader.take(&STORAGE_PATH, folder).unwrap_or_default();
    let sync = reader.switch(&STORAGE_SYNC);
    let max_bytes = reader.integer(&STORAGE_MEMORY_MAX_BYTES).unwrap_or_default();
    let s3 = s3(reader, chosen == Some("s3"));
    if chosen == Some("memory") && max_bytes < max_image_bytes {
        reader.warn(format!(
            "STORAGE_MEMORY_MAX_BYTES ({max_bytes}) is less than MAX_IMAGE_SIZE ({max_image_bytes}): \
             the largest images will not fit"
        ));
    }
    // The one place that keeps `s3` out of this build.
    if chosen == Some("s3") {
        reader.refuse(
            &STORAGE_BACKEND,
            Some("this build has no s3 backend yet; use file or memory".to_owned()),
        );
    }
    let backend = match chosen {
        Some("memory") => storage::Backend::Memory { max_bytes },
        _ => storage::Backend::File { path },
    };
    (storage::Config { backend, public_base_url: public_base_url.to_owned(), sync }, s3)
}

/// Reads how much may be stored.
pub(super) fn quota(reader: &mut Reader, max_image_bytes: u64) -> Quota {
    let quota =
        Quota { images: reader.integer(&STORAGE_MAX_IMAGES), bytes: reader.integer(&STORAGE_MAX_BYTES) };
    if let Some(bytes) = quota.bytes.filter(|bytes| *bytes < max_image_bytes) {
        reader.warn(format!(
            "STORAGE_MAX_BYTES ({bytes}) is less than MAX_IMAGE_SIZE ({max_image_bytes}): the largest images \
             go as soon as they are stored"
        ));
    }
    quota
}

fn s3(reader: &mut Reader, chosen: bool) -> Option<S3Config> {
    let bucket = reader.take(&S3_BUCKET, bucket);
    let prefix = reader.take(&S3_PREFIX, prefix).unwrap_or_default();
    let endpoint_url = reader.take(&S3_ENDPOINT_URL, syntax::web_url);
    let region = reader.take(&AWS_REGION, region).unwrap_or_default();
    let mut secret = |variable| reader.take(variable, syntax::token).map(Secret::new);
    let (key_id, key) = (secret(&AWS_ACCESS_KEY_ID), secret(&AWS_SECRET_ACCESS_KEY));
    let session_token = secret(&AWS_SESSION_TOKEN);
    if chosen {
        if !reader.is_given(&S3_BUCKET) {
            reader.missing(&S3_BUCKET, "STORAGE_BACKEND=s3 needs the name of a bucket");
        }
        // Other AWS tools share these names: they are checked together only where they are used.
        if reader.is_given(&AWS_ACCESS_KEY_ID) != reader.is_given(&AWS_SECRET_ACCESS_KEY) {
            reader
                .conflict(&[&AWS_ACCESS_KEY_ID, &AWS_SECRET_ACCESS_KEY], "only one is set; set both or none");
        }
    }
    let credentials = key_id.zip(key).map(|(access_key_id, secret_access_key)| S3Credentials {
        access_key_id,
        secret_access_key,
        session_token,
    });
    Some(S3Config { bucket: bucket?, prefix, endpoint_url, region, credentials })
}

fn folder(text: &str) -> Result<PathBuf, Refused> {
    if text.contains('\0') {
        return Err(Some("it contains NUL".to_owned()));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Some("`~` is a shell's abbreviation; write the whole path".to_owned()));
    }
    Ok(PathBuf::from(text))
}

/// The general rules for bucket names of AWS; other providers are not more generous.
fn bucket(text: &str) -> Result<String, Refused> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let fits = (3..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
        && !text.contains("..");
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

fn prefix(text: &str) -> Result<String, Refused> {
    let parts = text.strip_suffix('/').unwrap_or(text);
    let fits = text.len() <= 512
        && !text.chars().any(char::is_control)
        && parts.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if fits { Ok(format!("{parts}/")) } else { Err(None) }
}

fn region(text: &str) -> Result<String, Refused> {
    let fits = text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

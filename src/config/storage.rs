//! Where images live.

use std::path::PathBuf;

use super::{
    Default, Kind,
    reader::{Reader, Refused},
    syntax,
    variable::variables,
};
use crate::{
    cleaner::Quota,
    secret::Secret,
    storage::{self, Delivery, S3Config, S3Credentials, S3Identity, S3Timeouts, WebIdentity},
};

variables! {
    STORAGE_BACKEND: Kind::Choice(&["file", "memory", "s3"]),
        Default::Value("file"),
        "Where images are kept: a folder, this process's memory, which is gone with it, or a bucket of S3.";
    STORAGE_PATH: Kind::Text("a folder; it is made if absent"),
        Default::Value("/tmp/mcp-images"),
        "The folder of the file backend, local or a mounted volume; with STORAGE_FALLBACK=file, the one \
         that keeps images while S3 is away.";
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
    STORAGE_FALLBACK: Kind::Choice(&["off", "file"]),
        Default::Value("off"),
        "Where images are kept while S3 is away: `file` means the folder of STORAGE_PATH. They are moved \
         to the bucket when it is back, and keep their URL.";
    IMAGE_DELIVERY: Kind::Choice(&["proxy", "redirect"]),
        Default::Value("proxy"),
        "How images get from S3 to clients: through this server, or by a redirect to a signed URL of the \
         bucket, which clients must be able to reach.";
    S3_BUCKET: Kind::Text("3 to 63 lower-case letters, digits, dots and hyphens"),
        Default::Unset,
        "The bucket of the S3 backend.";
    S3_PREFIX: Kind::Text("text without a leading slash, empty parts, `.`, `..` and control characters"),
        Default::Value("mcp-images/"),
        "What keys in the bucket start with.";
    S3_ENDPOINT_URL: Kind::Text("an http or https URL without credentials, query and fragment"),
        Default::Unset,
        "The endpoint of MinIO, Ceph and others; without it, AWS.";
    S3_PUBLIC_ENDPOINT_URL: Kind::Text("an http or https URL without credentials, query and fragment"),
        Default::Unset,
        "Where clients reach the bucket with IMAGE_DELIVERY=redirect, if that is not S3_ENDPOINT_URL.";
    S3_PATH_STYLE: Kind::Choice(&["auto", "on", "off"]),
        Default::Value("auto"),
        "Whether the bucket stands in the URL's path (`on`) or in front of its host (`off`). `auto` means the \
         path with S3_ENDPOINT_URL, and otherwise the host if the bucket's name has no dot.";
    S3_CA_FILE: Kind::Text("the path of a PEM file that is there"),
        Default::Unset,
        "Certificate authorities trusted besides the system's.";
    S3_CONNECT_TIMEOUT: Kind::Seconds { min: 0.05, max: 300.0 },
        Default::Value("3"),
        "How long a connection to S3 may take to be made.";
    S3_RESPONSE_TIMEOUT: Kind::Seconds { min: 0.05, max: 3600.0 },
        Default::Value("5"),
        "From a request's last byte to the head of its answer. No try begins later than S3_CONNECT_TIMEOUT \
         and twice this time after the first one.";
    S3_IDLE_TIMEOUT: Kind::Seconds { min: 0.05, max: 3600.0 },
        Default::Value("10"),
        "Between two pieces of an image, in either direction. The whole of it has no limit while it flows.";
    S3_MAX_RETRIES: Kind::Integer { min: 0, max: 20, unit: "tries" },
        Default::Value("3"),
        "Tries after the first one, on the same key and with backoff.";
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
    AWS_PROFILE: Kind::Text("a name without control characters"),
        Default::Value("default"),
        "The profile in the shared credentials file, where AWS_ACCESS_KEY_ID is not set.";
    AWS_SHARED_CREDENTIALS_FILE: Kind::Text("the path of a file"),
        Default::Derived("`~/.aws/credentials`"),
        "The shared credentials file; read again every ten minutes.";
    AWS_ROLE_ARN: Kind::Text("the name of a role, without control characters"),
        Default::Unset,
        "The role to assume with the token of AWS_WEB_IDENTITY_TOKEN_FILE (IRSA), where AWS_ACCESS_KEY_ID is \
         not set.";
    AWS_WEB_IDENTITY_TOKEN_FILE: Kind::Text("the path of a file"),
        Default::Unset,
        "The token for AWS_ROLE_ARN; read again each time.";
    AWS_ROLE_SESSION_NAME: Kind::Text("2 to 64 letters, digits and `=,.@_-`"),
        Default::Value("mcp-image-server"),
        "What the assumed role's session is called.";
}

/// Reads the storage; the S3 part is there if a bucket is named.
pub(super) fn read(reader: &mut Reader, max_image_bytes: u64) -> (storage::Config, Option<S3Config>) {
    let chosen = reader.choice(&STORAGE_BACKEND);
    let path = reader.take(&STORAGE_PATH, folder).unwrap_or_default();
    let sync = reader.switch(&STORAGE_SYNC);
    let max_bytes = reader.integer(&STORAGE_MEMORY_MAX_BYTES).unwrap_or_default();
    let falls_back = reader.choice(&STORAGE_FALLBACK) == Some("file");
    let s3 = s3(reader, chosen == Some("s3"));
    if chosen != Some("s3") {
        for (variable, given) in [(&STORAGE_FALLBACK, falls_back), (&IMAGE_DELIVERY, redirects(&s3))] {
            if given {
                reader.warn(format!("{} has no effect without STORAGE_BACKEND=s3", variable.name));
            }
        }
    }
    if chosen == Some("memory") && max_bytes < max_image_bytes {
        reader.warn(format!(
            "STORAGE_MEMORY_MAX_BYTES ({max_bytes}) is less than MAX_IMAGE_SIZE ({max_image_bytes}): \
             the largest images will not fit"
        ));
    }
    let s3 = s3.map(|s3| S3Config { fallback: falls_back.then(|| path.clone()), ..s3 });
    let backend = match (chosen, &s3) {
        (Some("memory"), _) => storage::Backend::Memory { max_bytes },
        (Some("s3"), Some(s3)) => storage::Backend::S3(Box::new(s3.clone())),
        _ => storage::Backend::File { path },
    };
    (storage::Config { backend, sync }, s3)
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
    let keys = key_id.zip(key).map(|(access_key_id, secret_access_key)| S3Credentials {
        access_key_id,
        secret_access_key,
        session_token,
    });
    let identity = identity(reader, chosen, keys);
    let public_endpoint_url = reader.take(&S3_PUBLIC_ENDPOINT_URL, syntax::web_url);
    let path_style = match reader.choice(&S3_PATH_STYLE) {
        Some("on") => Some(true),
        Some("off") => Some(false),
        _ => None,
    };
    let ca_file = reader.take(&S3_CA_FILE, existing_file);
    let timeouts = S3Timeouts {
        connect: reader.seconds(&S3_CONNECT_TIMEOUT).unwrap_or_default(),
        first_byte: reader.seconds(&S3_RESPONSE_TIMEOUT).unwrap_or_default(),
        idle: reader.seconds(&S3_IDLE_TIMEOUT).unwrap_or_default(),
    };
    let max_retries = reader.integer(&S3_MAX_RETRIES).unwrap_or_default();
    let delivery = match reader.choice(&IMAGE_DELIVERY) {
        Some("redirect") => Delivery::Redirect,
        _ => Delivery::Proxy,
    };
    Some(S3Config {
        bucket: bucket?,
        prefix,
        endpoint_url,
        public_endpoint_url,
        path_style,
        region,
        identity,
        ca_file,
        timeouts,
        max_retries,
        delivery,
        fallback: None,
    })
}

fn redirects(s3: &Option<S3Config>) -> bool {
    s3.as_ref().is_some_and(|s3| s3.delivery == Delivery::Redirect)
}

fn identity(reader: &mut Reader, chosen: bool, keys: Option<S3Credentials>) -> S3Identity {
    let profile = reader.take(&AWS_PROFILE, word).unwrap_or_default();
    let profile_file = reader.take(&AWS_SHARED_CREDENTIALS_FILE, folder);
    if profile_file.is_none() {
        reader.derived(&AWS_SHARED_CREDENTIALS_FILE, "~/.aws/credentials");
    }
    let role_arn = reader.take(&AWS_ROLE_ARN, word);
    let token_file = reader.take(&AWS_WEB_IDENTITY_TOKEN_FILE, folder);
    let session_name = reader.take(&AWS_ROLE_SESSION_NAME, session_name).unwrap_or_default();
    if chosen && reader.is_given(&AWS_ROLE_ARN) != reader.is_given(&AWS_WEB_IDENTITY_TOKEN_FILE) {
        reader.conflict(&[&AWS_ROLE_ARN, &AWS_WEB_IDENTITY_TOKEN_FILE], "only one is set; set both or none");
    }
    let role = role_arn.zip(token_file);
    let web_identity = role.map(|(role_arn, token_file)| WebIdentity { role_arn, token_file, session_name });
    S3Identity { keys, web_identity, profile_file, profile }
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

fn existing_file(text: &str) -> Result<PathBuf, Refused> {
    let path = folder(text)?;
    if path.is_file() { Ok(path) } else { Err(Some("there is no such file".to_owned())) }
}

fn word(text: &str) -> Result<String, Refused> {
    let fits = text.len() <= 2048 && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

fn session_name(text: &str) -> Result<String, Refused> {
    let fits = (2..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b',' | b'.' | b'@' | b'_' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

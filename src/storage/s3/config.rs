use std::{path::PathBuf, time::Duration};

use url::Url;

use crate::secret::Secret;

/// What an S3 backend needs to know.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What keys start with: empty, or with a trailing slash.
    pub prefix: String,
    /// The endpoint of another provider than AWS.
    pub endpoint_url: Option<Url>,
    /// The endpoint under which clients reach the bucket, where that is another one; only redirects
    /// name it.
    pub public_endpoint_url: Option<Url>,
    /// Whether the bucket stands in the path (`true`) or in the host's name; `None`: in the path
    /// with an endpoint of one's own, else in the host's name where it fits there.
    pub path_style: Option<bool>,
    /// The bucket's region.
    pub region: String,
    /// Who asks.
    pub identity: S3Identity,
    /// Certificate authorities trusted besides the usual ones: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// How long each phase of a request may take.
    pub timeouts: S3Timeouts,
    /// Tries after the first one, of requests that may be repeated.
    pub max_retries: u32,
    /// How images get to clients.
    pub delivery: Delivery,
    /// The folder that keeps images while S3 is away.
    pub fallback: Option<PathBuf>,
}

/// How long each phase of a request may take. The whole of a body has no limit as long as it flows.
#[derive(Debug, Clone, Copy)]
pub struct S3Timeouts {
    /// Until a connection is there.
    pub connect: Duration,
    /// From the last byte sent to the head of the answer; a short answer must be whole within as much
    /// time again. No try begins later than `connect` and twice this time after the first one.
    pub first_byte: Duration,
    /// Between two chunks of a body, in either direction.
    pub idle: Duration,
}

impl Default for S3Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(3), first_byte: seconds(5), idle: seconds(10) }
    }
}

/// How images get to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Through this server.
    #[default]
    Proxy,
    /// By a redirect to a signed URL of the bucket.
    Redirect,
}

/// Who asks an S3 backend: the first of these that is there. After them, the role of the container
/// (ECS, EKS Pod Identity) and of the instance (EC2) are asked for.
#[derive(Debug, Clone)]
pub struct S3Identity {
    /// Keys that were given.
    pub keys: Option<S3Credentials>,
    /// A role that is assumed with a token from a file (IRSA).
    pub web_identity: Option<WebIdentity>,
    /// The file of shared credentials; `None`: `~/.aws/credentials`.
    pub profile_file: Option<PathBuf>,
    /// The profile in that file.
    pub profile: String,
}

/// Keys of S3.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
    /// Comes with temporary keys.
    pub session_token: Option<Secret>,
}

/// A role that is assumed with a token from a file.
#[derive(Debug, Clone)]
pub struct WebIdentity {
    /// The role.
    pub role_arn: String,
    /// The file of the token; read again for each exchange.
    pub token_file: PathBuf,
    /// What the session is called in the provider's audit log.
    pub session_name: String,
}

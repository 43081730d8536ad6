//! Who asks: fixed keys, or temporary ones that are fetched anew before they expire.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use s3::creds::{self, Credentials};
use tokio::time::{Instant, timeout};

use super::{S3Credentials, S3Identity, WebIdentity, error::Failure};
use crate::secret::Secret;

/// Temporary keys are fetched anew this long before they expire, while the old ones still serve.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// Keys from a file have no expiry, but the file may be rotated.
const FILE_LIFE: Duration = Duration::from_secs(10 * 60);

/// After a fetch that failed, the next one waits this long.
const PAUSE: Duration = Duration::from_secs(5);

/// One request of a fetch, and a whole fetch: it makes up to three requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Temporary keys, and when they end.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) keys: S3Credentials,
    pub(super) expires: SystemTime,
}

/// Where temporary keys come from. May block.
type Fetch = dyn Fn() -> Result<Fetched, String> + Send + Sync;

/// Gives the keys to sign with.
#[derive(Clone)]
pub(super) struct Provider(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<S3Credentials>),
    Fetched(Arc<Fetching>),
}

struct Fetching {
    fetch: Box<Fetch>,
    state: Mutex<State>,
    /// One fetch at a time; who waits for it finds its result in the state.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<(Arc<S3Credentials>, SystemTime)>,
    failed: Option<(Instant, String)>,
    renewing: bool,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::Fixed(_) => "Provider(fixed)",
            Source::Fetched(_) => "Provider(fetched)",
        })
    }
}

impl Provider {
    /// The provider of the configured identity.
    pub(super) fn new(identity: &S3Identity) -> Self {
        match identity.keys.clone() {
            Some(keys) => Self(Source::Fixed(Arc::new(keys))),
            None => {
                creds::set_request_timeout(Some(REQUEST_TIMEOUT));
                let identity = identity.clone();
                Self::fetching(move || fetch(&identity))
            }
        }
    }

    fn fetching(fetch: impl Fn() -> Result<Fetched, String> + Send + Sync + 'static) -> Self {
        let fetching =
            Fetching { fetch: Box::new(fetch), state: Mutex::default(), turn: tokio::sync::Mutex::default() };
        Self(Source::Fetched(Arc::new(fetching)))
    }

    /// The keys to sign with now.
    pub(super) async fn keys(&self) -> Result<Arc<S3Credentials>, Failure> {
        let fetching = match &self.0 {
            Source::Fixed(keys) => return Ok(Arc::clone(keys)),
            Source::Fetched(fetching) => fetching,
        };
        let now = SystemTime::now();
        if let Some((keys, left)) = fetching.current(now) {
            if left < EARLY && fetching.may_renew() {
                let fetching = Arc::clone(fetching);
                tokio::spawn(async move {
                    let _ = fetching.renew().await;
                    fetching.state().renewing = false;
                });
            }
            return Ok(keys);
        }
        let _turn = fetching.turn.lock().await;
        // Another one may have fetched them meanwhile.
        if let Some((keys, _)) = fetching.current(now) {
            return Ok(keys);
        }
        if let Some((at, reason)) = &fetching.state().failed
            && at.elapsed() < PAUSE
        {
            return Err(Failure::Credentials(reason.clone()));
        }
        fetching.renew().await.map_err(Failure::Credentials)
    }

    /// The other side says that the keys are stale: fetches new ones the next time. Whether there
    /// can be new ones.
    pub(super) fn forget(&self, keys: &Arc<S3Credentials>) -> bool {
        let Source::Fetched(fetching) = &self.0 else { return false };
        let mut state = fetching.state();
        if state.current.as_ref().is_some_and(|(current, _)| Arc::ptr_eq(current, keys)) {
            state.current = None;
        }
        true
    }
}

impl Fetching {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys at hand and how long they serve.
    fn current(&self, now: SystemTime) -> Option<(Arc<S3Credentials>, Duration)> {
        let state = self.state();
        let (keys, expires) = state.current.as_ref()?;
        let left = expires.duration_since(now).ok().filter(|left| !left.is_zero())?;
        Some((Arc::clone(keys), left))
    }

    fn may_renew(&self) -> bool {
        let mut state = self.state();
        let paused = state.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < PAUSE);
        !paused && !std::mem::replace(&mut state.renewing, true)
    }

    async fn renew(self: &Arc<Self>) -> Result<Arc<S3Credentials>, String> {
        let this = Arc::clone(self);
        let fetched = tokio::task::spawn_blocking(move || (this.fetch)());
        let fetched = match timeout(FETCH_TIMEOUT, fetched).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err("fetching them panicked".to_owned()),
            Err(_) => Err(format!("none within {} s", FETCH_TIMEOUT.as_secs())),
        };
        let mut state = self.state();
        match fetched {
            Ok(Fetched { keys, expires }) => {
                let keys = Arc::new(keys);
                state.current = Some((Arc::clone(&keys), expires));
                state.failed = None;
                Ok(keys)
            }
            Err(reason) => {
                tracing::warn!(reason, "no new S3 credentials");
                state.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }
}

/// Asks each source in turn; the first that is configured and answers serves.
fn fetch(identity: &S3Identity) -> Result<Fetched, String> {
    let mut tried = Vec::new();
    let mut attempt = |name: &str, result: Result<Credentials, String>| match result.and_then(usable) {
        Ok(fetched) => Some(fetched),
        Err(reason) => {
            tried.push(format!("{name}: {reason}"));
            None
        }
    };
    let found = match &identity.web_identity {
        // Who configured a role means that one.
        Some(role) => attempt("web identity (AWS_ROLE_ARN)", web_identity(role)),
        None => attempt("profile", profile(identity.profile_file.as_deref(), &identity.profile))
            .or_else(|| attempt("container role", plain(Credentials::from_container_credentials_provider())))
            .or_else(|| attempt("instance role", plain(Credentials::from_instance_metadata_v2(false)))),
    };
    found.ok_or_else(|| {
        format!("AWS_ACCESS_KEY_ID is not set, and none of the others gives any ({})", tried.join("; "))
    })
}

fn web_identity(role: &WebIdentity) -> Result<Credentials, String> {
    let token = std::fs::read_to_string(&role.token_file)
        .map_err(|error| format!("cannot read {}: {error}", role.token_file.display()))?;
    plain(Credentials::from_sts(&role.role_arn, &role.session_name, token.trim()))
}

fn profile(file: Option<&Path>, profile: &str) -> Result<Credentials, String> {
    plain(match file {
        Some(file) => Credentials::from_credentials_file(file, Some(profile)),
        None => Credentials::from_profile(Some(profile)),
    })
}

/// The library's errors in words that hold no answer's body, no URL and no token.
fn plain(result: Result<Credentials, creds::error::CredentialsError>) -> Result<Credentials, String> {
    use creds::error::CredentialsError as E;
    result.map_err(|error| match error {
        E::Atto(_) | E::ContainerCredentialsRequest => "its service does not answer".to_owned(),
        E::SerdeXml(_) => "its service refuses, or answers something else".to_owned(),
        E::Ini(_) | E::Io(_) => "no such file, or it cannot be read".to_owned(),
        E::ConfigNotFound => "no such profile in the file".to_owned(),
        E::NotEc2 => "not on an instance".to_owned(),
        E::NotContainer => "not in a container with a role".to_owned(),
        E::UnexpectedStatusCode(status) => format!("its service answers {status}"),
        E::HomeDir => "no home folder".to_owned(),
        _ => "not usable".to_owned(),
    })
}

fn usable(credentials: Credentials) -> Result<Fetched, String> {
    let (Some(id), Some(key)) = (credentials.access_key, credentials.secret_key) else {
        return Err("no key in it".to_owned());
    };
    let token = credentials.security_token.or(credentials.session_token);
    let expires = credentials.expiration.and_then(|at| u64::try_from(at.unix_timestamp()).ok());
    Ok(Fetched {
        keys: S3Credentials {
            access_key_id: Secret::new(id),
            secret_access_key: Secret::new(key),
            session_token: token.filter(|token| !token.is_empty()).map(Secret::new),
        },
        expires: match expires {
            Some(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            None => SystemTime::now() + FILE_LIFE,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives keys with these lives, one after the other; then fails.
    fn provider(lives: &'static [u64]) -> (Provider, Arc<AtomicUsize>) {
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fetches);
        let provider = Provider::fetching(move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let life = lives.get(number).ok_or_else(|| "nobody there".to_owned())?;
            let key = |name: &str| Secret::new(format!("{name}{number}"));
            Ok(Fetched {
                keys: S3Credentials {
                    access_key_id: key("id"),
                    secret_access_key: key("key"),
                    session_token: None,
                },
                expires: SystemTime::now() + Duration::from_secs(*life),
            })
        });
        (provider, fetches)
    }

    async fn id(provider: &Provider) -> String {
        provider.keys().await.expect("keys").access_key_id.expose().to_owned()
    }

    #[tokio::test]
    async fn keys_are_fetched_once_while_they_last() {
        let (provider, fetches) = provider(&[3600]);
        let all = futures_util::future::join_all((0..10).map(|_| id(&provider))).await;
        assert!(all.iter().all(|id| id == "id0"));
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn keys_near_their_end_serve_while_new_ones_come() {
        let (provider, fetches) = provider(&[60, 3600]);
        assert_eq!(id(&provider).await, "id0");
        assert_eq!(id(&provider).await, "id0");
        while id(&provider).await == "id0" {
            tokio::task::yield_now().await;
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn keys_that_are_over_are_not_used() {
        let (provider, _) = provider(&[0, 3600]);
        // The first fetch gives its keys all the same: the other side decides about them.
        assert_eq!(id(&provider).await, "id0");
        assert_eq!(id(&provider).await, "id1");
    }

    #[tokio::test]
    async fn keys_called_stale_are_fetched_anew() {
        let (provider, _) = provider(&[3600, 3600]);
        let keys = provider.keys().await.expect("keys");
        assert!(provider.forget(&keys));
        assert_eq!(id(&provider).await, "id1");
        // The first ones are no longer current: nothing is lost by forgetting them again.
        assert!(provider.forget(&keys));
        assert_eq!(id(&provider).await, "id1");
    }

    #[tokio::test(start_paused = true)]
    async fn fetch_that_fails_is_not_repeated_at_once() {
        let (provider, fetches) = provider(&[]);
        for _ in 0..3 {
            let failure = provider.keys().await.expect_err("no keys");
            assert_eq!(failure, Failure::Credentials("nobody there".to_owned()));
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        tokio::time::advance(PAUSE).await;
        assert!(provider.keys().await.is_err());
        assert_eq!(fetches.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn profile_file_gives_the_keys_of_the_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials");
        let text = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n\
                    [images]\naws_access_key_id = c\naws_secret_access_key = d\naws_session_token = e\n";
        std::fs::write(&file, text).expect("written");
        let identity = |profile: &str| S3Identity {
            keys: None,
            web_identity: None,
            profile_file: Some(file.clone()),
            profile: profile.to_owned(),
        };
        let keys = fetch(&identity("images")).expect("keys").keys;
        assert_eq!(keys.access_key_id.expose(), "c");
        assert_eq!(keys.session_token.expect("a token").expose(), "e");
        let reason = fetch(&identity("absent")).expect_err("no keys");
        assert!(reason.contains("profile: no such profile in the file"), "{reason}");
        assert!(reason.contains("instance role: not on an instance"), "{reason}");
    }

    #[test]
    fn web_identity_without_its_file_is_told_and_nothing_else_is_asked() {
        let identity = S3Identity {
            keys: None,
            web_identity: Some(WebIdentity {
                role_arn: "arn:aws:iam::1:role/x".to_owned(),
                token_file: "/nowhere/token".into(),
                session_name: "mcp".to_owned(),
            }),
            profile_file: None,
            profile: "default".to_owned(),
        };
        let reason = fetch(&identity).expect_err("no keys");
        assert!(reason.contains("cannot read /nowhere/token") && !reason.contains("profile"), "{reason}");
    }
}

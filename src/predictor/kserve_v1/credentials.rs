//! The bearer token, from the configuration or from a file that is rotated.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::HeaderValue;

use super::super::Bearer;
use super::BuildError;

/// What `Authorization` is sent.
#[derive(Debug)]
pub(super) enum Credentials {
    None,
    Value(HeaderValue),
    File { path: PathBuf, read: Mutex<Read> },
}

/// What a file held when it was last read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    seen: Option<Seen>,
    header: HeaderValue,
}

/// By this a change is noticed.
type Seen = (SystemTime, u64);

impl Credentials {
    /// Takes the value, or reads the file for the first time.
    pub(super) fn new(bearer: Option<&Bearer>) -> Result<Self, BuildError> {
        match bearer {
            None => Ok(Self::None),
            Some(Bearer::Value(value)) => {
                let header = header(value.expose()).ok_or(BuildError::BearerValue)?;
                Ok(Self::Value(header))
            }
            Some(Bearer::File(path)) => {
                let read = std::fs::metadata(path)
                    .and_then(|metadata| Ok((seen(&metadata), std::fs::read_to_string(path)?)))
                    .map_err(|source| BuildError::BearerFile { path: path.clone(), source })?;
                let header = header(&read.1).ok_or_else(|| BuildError::BearerFileContent(path.clone()))?;
                Ok(Self::File { path: path.clone(), read: Mutex::new(Read { seen: read.0, header }) })
            }
        }
    }

    /// The header for the next request. A file is read again when it has changed; when that fails,
    /// the last good token is sent, for it may well be valid still.
    pub(super) async fn authorization(&self) -> Option<HeaderValue> {
        let (path, read) = match self {
            Self::None => return None,
            Self::Value(header) => return Some(header.clone()),
            Self::File { path, read } => (path, read),
        };
        let last = read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match read_changed(path, last.seen).await {
            Ok(None) => Some(last.header),
            Ok(Some(changed)) => {
                let header = changed.header.clone();
                *read.lock().unwrap_or_else(PoisonError::into_inner) = changed;
                Some(header)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the bearer token cannot be read again; sending the last one");
                Some(last.header)
            }
        }
    }
}

async fn read_changed(path: &Path, last: Option<Seen>) -> std::io::Result<Option<Read>> {
    let seen = seen(&tokio::fs::metadata(path).await?);
    if seen.is_some() && seen == last {
        return Ok(None);
    }
    let text = tokio::fs::read_to_string(path).await?;
    let header = header(&text).ok_or_else(|| std::io::Error::other("it does not hold a token"))?;
    Ok(Some(Read { seen, header }))
}

fn seen(metadata: &std::fs::Metadata) -> Option<Seen> {
    Some((metadata.modified().ok()?, metadata.len()))
}

/// `None` for what is empty or cannot stand in a header.
fn header(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    (!token.is_empty()).then_some(header)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    fn write(path: &Path, token: &str, age_seconds: u64) {
        std::fs::write(path, token).expect("written");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age_seconds);
        let file = std::fs::File::options().write(true).open(path).expect("opened");
        file.set_modified(time).expect("dated");
    }

    async fn sent(credentials: &Credentials) -> String {
        let header = credentials.authorization().await.expect("a header");
        header.to_str().expect("text").to_owned()
    }

    #[tokio::test]
    async fn credentials_from_a_file_follow_its_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        write(&path, "first\n", 60);
        let credentials = Credentials::new(Some(&Bearer::File(path.clone()))).expect("read");
        assert_eq!(sent(&credentials).await, "Bearer first");
        write(&path, "other", 30);
        assert_eq!(sent(&credentials).await, "Bearer other");
        write(&path, "", 20);
        assert_eq!(sent(&credentials).await, "Bearer other");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(sent(&credentials).await, "Bearer other");
        write(&path, "third", 10);
        assert_eq!(sent(&credentials).await, "Bearer third");
    }

    #[tokio::test]
    async fn credentials_never_show_the_token() {
        let bearer = Bearer::Value(Secret::new("hush"));
        let credentials = Credentials::new(Some(&bearer)).expect("taken");
        assert_eq!(sent(&credentials).await, "Bearer hush");
        assert!(!format!("{credentials:?}").contains("hush"));
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused() {
        for bearer in [
            Bearer::Value(Secret::new(" ")),
            Bearer::Value(Secret::new("a\nb")),
            Bearer::File(PathBuf::from("/nonexistent/token")),
        ] {
            assert!(Credentials::new(Some(&bearer)).is_err(), "{bearer:?}");
        }
    }
}

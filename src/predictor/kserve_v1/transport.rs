//! The HTTP client that predictions go through.
//!
//! It is hyper's, put together here and not by reqwest: a reply has a megabyte or so, many come together, and only here
//! can it be said how much of one a connection reads ahead of whoever takes it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use layers::BoxError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tower::{ServiceBuilder, util::BoxCloneSyncService};

use super::{
    super::{Error, KserveV1Config},
    BuildError,
};

const NAME: HeaderValue =
    HeaderValue::from_static(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));

/// Python servers close idle connections after 5 s. A request that meets the closing would look
/// broken after dispatch and could not be sent again, so connections are let go first.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Connections kept for later calls at most. Each keeps the buffer that it read its last reply into.
const POOL_IDLE: usize = 128;

/// A peer that vanished while it draws is noticed, though no byte flows: it is asked after so long a silence, and given up
/// when it has not said so for as long again.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// What a connection reads ahead at most. It is filled before there is room for the reply.
pub(super) const READ_BUFFER: usize = 64 * 1024;

/// Asks one predictor, at the configured address and nowhere else: redirects are not followed, whatever proxies the
/// environment names are not used. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: legacy::Client<Connector, Full<Bytes>>,
    headers: HeaderMap,
}

type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

impl Transport {
    /// A client for the model's address, which is of HTTP or of HTTPS.
    ///
    /// # Errors
    /// A CA file that cannot be read or holds no certificate.
    pub(super) fn new(config: &KserveV1Config, connect_timeout: Duration) -> Result<Self, BuildError> {
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        for value in headers.values_mut() {
            value.set_sensitive(true);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.entry(USER_AGENT).or_insert(NAME);
        headers.extend(config.host.clone().map(|host| (HOST, host)));

        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
        // What was sent and is not acknowledged is given up as soon.
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_KEEPALIVE));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls(config)?).https_or_http();
        let https = if config.host.is_some() {
            // HTTP/2 names the host by `:authority`, which follows the URL.
            https.enable_http1().wrap_connector(tcp)
        } else {
            https.enable_all_versions().wrap_connector(tcp)
        };
        let connector = ServiceBuilder::new().timeout(connect_timeout).service(https);
        let connector = BoxCloneSyncService::new(connector);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_IDLE)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        Ok(Self { client, headers })
    }

    /// Sends a request and waits for the head of its response. Dropping the future, or the response's body before its
    /// end, closes the connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no connection was made, [`Error::Interrupted`] if it broke.
    pub(super) async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(headers);
        let connection = capture_connection(&mut request);
        let response = self.client.request(request).await.map_err(broken)?;
        if response.status().is_server_error() && response.version() < Version::HTTP_2 {
            // Servers close the connection of a failure without having said so: the next call, met by that, would look
            // broken after dispatch.
            connection.connection_metadata().as_ref().inspect(|connected| connected.poison());
        }
        Ok(response)
    }
}

/// What a transport error means: only one from before dispatch says that nothing was computed.
fn broken(error: legacy::Error) -> Error {
    if error.is_connect() { Error::Unreachable(error.into()) } else { Error::Interrupted(error.into()) }
}

fn tls(config: &KserveV1Config) -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    // Loading the system's certificates takes longer than all the rest of the start.
    if config.predict_url.scheme() == "https" {
        // Those that cannot be read are missing when they are wanted, and the failed handshake says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(own_authorities(config)?);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn own_authorities(config: &KserveV1Config) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let Some(path) = &config.ca_file else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|source| BuildError::CaFile { path: path.clone(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(BuildError::CaFileContent(path.clone())),
    }
}

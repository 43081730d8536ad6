//! The KServe V1 predictor over TLS: who is trusted, and who is not.

use std::{io::Write, net::SocketAddr, sync::Arc};

use mcp_image_server::predictor::{Error, KserveV1Config, Predictor, kserve_v1::KserveV1, progress_channel};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::NamedTempFile;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake_predictor::FakePredictor,
    kserve_v1::{config, request},
};

/// What ends TLS in front of a predictor, with a certificate of an authority of its own.
struct Gateway {
    address: SocketAddr,
    authority: NamedTempFile,
    accepting: AbortHandle,
}

impl Gateway {
    async fn start(fake: &FakePredictor) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &authority))
            .expect("signed");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("a key that fits");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let predictor = fake.address();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not trust the certificate leaves in the middle of the handshake.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut predictor = TcpStream::connect(predictor).await.expect("connected");
                    let _ = copy_bidirectional(&mut client, &mut predictor).await;
                });
            }
        })
        .abort_handle();
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(authority.pem().as_bytes()).expect("written");
        Self { address, authority: file, accepting }
    }

    fn config(&self) -> KserveV1Config {
        KserveV1Config { max_retries: 0, ..config(&format!("https://{}", self.address)) }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[tokio::test]
async fn predictor_is_reached_by_a_certificate_of_the_configured_authority() {
    let fake = FakePredictor::start([]).await;
    let gateway = Gateway::start(&fake).await;
    let ca_file = Some(gateway.authority.path().to_owned());
    let predictor = KserveV1::new(KserveV1Config { ca_file, ..gateway.config() }).expect("built");
    for _ in 0..2 {
        let prediction = predictor.predict(&request(), &progress_channel().0).await.expect("an image");
        assert!(prediction.image.starts_with(b"\x89PNG"));
    }
}

#[tokio::test]
async fn predictor_of_an_unknown_authority_is_told_nothing() {
    let fake = FakePredictor::start([]).await;
    let gateway = Gateway::start(&fake).await;
    let predictor = KserveV1::new(gateway.config()).expect("built");
    let error = predictor.predict(&request(), &progress_channel().0).await.expect_err("not trusted");
    let Error::Unreachable(cause) = error else { panic!("{error:?}") };
    assert!(format!("{cause:?}").contains("UnknownIssuer"), "{cause:?}");
    assert!(fake.requests().is_empty());
}

//! The whole server in this process, on a port of its own.

use std::time::Duration;

use mcp_image_server::{
    app::App,
    config::{Config, Source},
    metrics,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// A running server; stopped by [`TestServer::stop`], or with the test's runtime.
pub struct TestServer {
    base: String,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl TestServer {
    /// Starts with the embedded predictor and a folder of its own.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with these variables besides.
    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_str().expect("UTF-8").to_owned();
        let own = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("STORAGE_PATH", &path),
            ("STORAGE_SYNC", "off"),
            ("SHUTDOWN_DELAY", "0"),
        ];
        let given = variables.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let all = own.iter().filter(|(name, _)| !given.contains(name)).chain(variables).copied();
        let config = Config::load(Source::environment(all)).expect("a valid configuration").config;
        let app = App::build(config, metrics::install().expect("a recorder")).await.expect("a server");
        let base = format!("http://{}", app.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(app.run(async move {
            let _ = stopped.await;
            Duration::ZERO
        }));
        Self { base, folder, stop, serving }
    }

    /// The server's URL with `path` behind it.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The folder of its store.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Drains; whether every request in flight was finished.
    pub async fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.serving.await.expect("the server did not panic")
    }
}

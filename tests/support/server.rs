//! The whole server in this process, on a port of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mcp_image_server::{
    app::App,
    config::{Config, Source},
    metrics,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{client::Client, fake_predictor::FakePredictor};

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
        let all = Source::environment(over(&own, variables));
        let config = Config::load(all).expect("a valid configuration").config;
        let app = App::build(config, metrics::install().expect("a recorder")).await.expect("a server");
        let base = format!("http://{}", app.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(app.run(async move {
            let _ = stopped.await;
            Duration::ZERO
        }));
        Self { base, folder, stop, serving }
    }

    /// Starts in front of a predictor that is called once for each generation, many at a time.
    pub async fn in_front_of(predictor: &FakePredictor, variables: &[(&str, &str)]) -> Self {
        let url = predictor.url();
        let own = [
            ("KSERVE_ENDPOINT", url.as_str()),
            ("KSERVE_MAX_RETRIES", "0"),
            ("GENERATION_CONCURRENCY", "64"),
        ];
        Self::start_with(&over(&own, variables)).await
    }

    /// The server's URL with `path` behind it.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        Client::new(&self.base)
    }

    /// The folder of its store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files in the folder of its store.
    pub fn files(&self) -> Vec<PathBuf> {
        files(self.folder.path())
    }

    /// Drains; whether every request in flight was finished.
    pub async fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.serving.await.expect("the server did not panic")
    }
}

/// Variables over others, which they replace.
fn over<'a>(under: &[(&'a str, &'a str)], variables: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_given = |name: &str| variables.iter().any(|(given, _)| *given == name);
    under.iter().filter(|(name, _)| !is_given(name)).chain(variables).copied().collect()
}

/// The files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

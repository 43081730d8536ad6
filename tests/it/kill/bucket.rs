//! The worker on a bucket, killed by the bucket: before a request has its effect, or after.
//!
//! The bucket is a fake, or a proxy in front of the real gateway (see [`crate::s3::peer`]).

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_image_server::storage::S3Config;
use s3::{Bucket, Region, creds::Credentials};
use tempfile::TempDir;

use super::{
    CYCLES_IN_A_FOLDER, WORKER, cycles,
    ledger::Ledger,
    worker::{self, Place, behind},
};
use crate::{client::until, fake_s3::FakeS3, s3::peer, s3_faults::patient, store_conformance::HOUR};

/// A request to a real gateway takes its time: so many times fewer cycles.
const GATEWAY_SHARE: usize = 5;

/// A bucket that kills, or a prefix in one.
struct Site {
    server: FakeS3,
    s3: S3Config,
    /// Whether the bucket is that of the real gateway, at this address.
    gateway: Option<url::Url>,
}

impl Site {
    async fn fake() -> Self {
        let server = FakeS3::start().await;
        let s3 = patient(server.addr);
        Self { server, s3, gateway: None }
    }

    /// With a prefix of its own.
    async fn in_front_of(real: &S3Config) -> Self {
        let gateway = real.endpoint_url.clone().unwrap();
        let server = FakeS3::in_front_of(&gateway).await;
        let s3 = behind(server.addr, format!("tests/{}/", uuid::Uuid::now_v7()));
        Self { server, s3, gateway: Some(gateway) }
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(Place::Bucket(Box::new(self.s3.clone())))
    }

    /// Starts the worker.
    fn start(&self, log: &Path) -> Child {
        let variable = if self.gateway.is_some() { worker::GATEWAY } else { worker::FAKE };
        Command::new(env::current_exe().unwrap())
            .args(["--exact", WORKER])
            .env(variable, self.server.addr.to_string())
            .env(worker::PREFIX, &self.s3.prefix)
            .env(worker::LOG, log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs the worker, which is killed at a request, before its effect or afterwards.
    async fn run(&self, log: &Path, at: Option<(usize, bool)>) -> ExitStatus {
        let _ = fs::remove_file(log);
        let worker = Arc::new(Mutex::new(self.start(log)));
        if let Some((request, afterwards)) = at {
            self.server.kill_at(Arc::clone(&worker), request, afterwards);
        }
        // It waits for the end of its input, so that it is not killed too late.
        drop(worker.lock().unwrap().stdin.take());
        let mut status = None;
        until(async || {
            status = worker.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// The keys there are, without their prefix, in order.
    async fn keys(&self) -> Vec<String> {
        let keys = match &self.gateway {
            Some(gateway) => listed(&self.s3, gateway).await,
            None => self.server.keys(),
        };
        keys.iter().map(|key| key[self.s3.prefix.len()..].to_owned()).collect()
    }
}

/// The keys in the bucket of the gateway, asked past the proxy and by rust-s3 alone.
async fn listed(s3: &S3Config, gateway: &url::Url) -> Vec<String> {
    let keys = s3.identity.keys.as_ref().unwrap();
    let (id, secret) = (keys.access_key_id.expose(), keys.secret_access_key.expose());
    let credentials = Credentials::new(Some(id), Some(secret), None, None, None).unwrap();
    let endpoint = gateway.as_str().trim_end_matches('/').to_owned();
    let region = Region::Custom { region: s3.region.clone(), endpoint };
    let bucket = Bucket::new(&s3.bucket, region, credentials).unwrap().with_path_style();
    let query = [("list-type", "2"), ("prefix", &*s3.prefix)];
    let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let url = bucket.presign_get("/", 300, Some(HashMap::from(query))).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = http.get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
    assert!(page.contains("<IsTruncated>false</IsTruncated>"), "{page}");
    let keys = page.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned());
    keys.collect()
}

/// Kills at so many requests, spread over all of them; from one round to the next, the ones in between.
/// Says how many there were.
async fn kill(cycles: usize, new: impl AsyncFn() -> Site) -> String {
    let scratch = TempDir::new().unwrap();
    let log: PathBuf = scratch.path().join("log");
    let mut site = new().await;
    let mut ledger = site.ledger();
    assert!(site.run(&log, None).await.success(), "the worker comes to its end if it is let");
    let requests = site.server.requests();
    assert!(requests > 40, "{requests}");
    ledger.read(&log);
    ledger.check().await;

    let places: Vec<_> = (0..requests).flat_map(|request| [(request, false), (request, true)]).collect();
    let stride = places.len().div_ceil(cycles).max(1);
    let spread = (0..stride).flat_map(|first| places.iter().skip(first).step_by(stride)).cycle();
    let mut killed = 0;
    for (cycle, (request, afterwards)) in spread.take(cycles).enumerate() {
        if cycle % CYCLES_IN_A_FOLDER == 0 {
            site = new().await;
            ledger = site.ledger();
        }
        let line = site.server.requests() + request;
        let status = site.run(&log, Some((*request, *afterwards))).await;
        killed += usize::from(!status.success());
        ledger.read(&log);
        let request = site.server.log().get(line).cloned();
        ledger.context = format!("killed at {request:?}, afterwards {afterwards}, cycle {cycle}");
        ledger.check().await;
        site.server.set_ahead(HOUR * 2);
        let expected = ledger.sweep_bucket(HOUR * 2).await;
        site.server.set_ahead(Duration::ZERO);
        assert_eq!(site.keys().await, expected, "{}", ledger.context);
    }
    assert!(killed * 10 >= cycles * 9, "{killed} of {cycles}");
    format!("{killed} kills in {cycles} cycles, spread over {requests} requests")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_any_request_loses_nothing_acknowledged_and_leaves_nothing_after_a_sweep() {
    eprintln!("figure: {} to a fake bucket", kill(cycles(), Site::fake).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_any_request_to_the_gateway_loses_nothing_acknowledged_and_leaves_nothing_after_a_sweep() {
    let Some(real) = peer() else { return };
    let cycles = cycles().div_ceil(GATEWAY_SHARE);
    let kills = kill(cycles, async || Site::in_front_of(&real).await).await;
    eprintln!("figure: {kills} to the gateway");
}

//! The worker on a bucket, killed by the bucket: before a request has its effect, or after.

use std::{
    env,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use super::{
    CYCLES_IN_A_FOLDER, WORKER, cycles,
    ledger::Ledger,
    worker::{self, Place},
};
use crate::{client::until, fake_s3::FakeS3};

/// Starts the worker.
fn start(server: &FakeS3, log: &std::path::Path) -> std::process::Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", WORKER])
        .env(worker::ENDPOINT, server.addr.to_string())
        .env(worker::LOG, log)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_any_request_loses_nothing_acknowledged_and_leaves_nothing_after_a_sweep() {
    let cycles = cycles();
    let scratch = TempDir::new().unwrap();
    let log = scratch.path().join("log");
    let run = async |server: &FakeS3, at: Option<(usize, bool)>| {
        let _ = std::fs::remove_file(&log);
        let worker = Arc::new(Mutex::new(start(server, &log)));
        if let Some((request, afterwards)) = at {
            server.kill_at(Arc::clone(&worker), request, afterwards);
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
    };

    let mut server = FakeS3::start().await;
    let mut ledger = Ledger::new(Place::Bucket(server.addr));
    assert!(run(&server, None).await.success(), "the worker comes to its end if it is let");
    let requests = server.requests();
    assert!(requests > 40, "{requests}");
    ledger.read(&log);
    ledger.check().await;

    // Spread over all requests; from one round to the next, the ones in between.
    let places: Vec<_> = (0..requests).flat_map(|request| [(request, false), (request, true)]).collect();
    let stride = places.len().div_ceil(cycles).max(1);
    let spread = (0..stride).flat_map(|first| places.iter().skip(first).step_by(stride)).cycle();
    let mut killed = 0;
    for (cycle, (request, afterwards)) in spread.take(cycles).enumerate() {
        if cycle % CYCLES_IN_A_FOLDER == 0 {
            server = FakeS3::start().await;
            ledger = Ledger::new(Place::Bucket(server.addr));
        }
        let line = server.requests() + request;
        let status = run(&server, Some((*request, *afterwards))).await;
        killed += usize::from(!status.success());
        ledger.read(&log);
        let request = server.log().get(line).cloned();
        ledger.context = format!("killed at {request:?}, afterwards {afterwards}, cycle {cycle}");
        ledger.check().await;
        ledger.check_bucket_after_a_sweep(&server).await;
    }
    eprintln!("figure: {killed} kills in {cycles} cycles, spread over {requests} requests");
    assert!(killed * 10 >= cycles * 9, "{killed} of {cycles}");
}

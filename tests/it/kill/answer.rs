//! The order of a generation as the kernel sees it: the disk has everything before the answer.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::left_out;

/// A call to the kernel: when it began and when it was over, as lines of the trace.
#[derive(Debug)]
struct Call {
    text: String,
    began: usize,
    over: usize,
}

/// The calls in a trace; those that were interrupted by others are put together again.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some((begin, _)) = call.split_once(" <unfinished ...>") {
            unfinished.insert(thread.to_owned(), (begin.to_owned(), number));
        } else if call.starts_with("<... ") {
            let Some((begin, began)) = unfinished.remove(thread) else { continue };
            let rest = call.split_once("resumed>").map_or("", |(_, rest)| rest);
            calls.push(Call { text: format!("{begin}{rest}"), began, over: number });
        } else {
            calls.push(Call { text: call.to_owned(), began: number, over: number });
        }
    }
    calls
}

#[tokio::test]
async fn answer_comes_when_the_disk_has_the_image_and_its_name() {
    let folder = TempDir::new().unwrap();
    let base = folder.path().canonicalize().unwrap().join("images");
    let log = folder.path().join("trace");
    // The tracer is a grandchild: the child is the server.
    let spawned = Command::new("strace")
        .args(["-D", "-f", "-yy", "-s", "32", "-o"])
        .arg(&log)
        .args(["-e", "trace=write,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2"])
        .arg(env!("CARGO_BIN_EXE_mcp-image-server"))
        .env_clear()
        .envs([
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("LOG_LEVEL", "WARN"),
            ("STORAGE_PATH", base.to_str().unwrap()),
        ])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = match spawned {
        Ok(server) => server,
        Err(error) => return left_out("strace", &error.to_string()),
    };
    let mut banner = BufReader::new(server.stdout.take().unwrap()).lines();
    let url = banner.find_map(|line| {
        let line = line.unwrap();
        let at = line.find("http://localhost:")? + "http://localhost:".len();
        let port: String = line[at..].chars().take_while(char::is_ascii_digit).collect();
        Some(format!("http://127.0.0.1:{port}/mcp/v1/tools/generate_image"))
    });
    let answer = reqwest::Client::new()
        .post(url.expect("the banner names the port"))
        .header("content-type", "application/json")
        .body(json!({"prompt": "a lighthouse", "width": 64, "height": 64}).to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert!(status.is_success(), "{body}");
    server.kill().unwrap();
    server.wait().unwrap();
    let id = body["image_id"].as_str().expect("an id").to_owned();

    let mut trace = fs::read_to_string(&log).unwrap();
    // The tracer writes on until it has seen the end.
    while !trace.contains("+++ killed by SIGKILL +++") {
        tokio::time::sleep(Duration::from_millis(20)).await;
        trace = fs::read_to_string(&log).unwrap();
    }
    let calls = calls(&trace);
    let base = base.to_str().unwrap();
    let group = format!("{base}/{}", &id[..6]);
    let bucket = format!("{group}/{}", &id[6..8]);
    let find = |what: &str, parts: &[&str]| {
        let mut found = calls.iter().rev().filter(|call| parts.iter().all(|part| call.text.contains(part)));
        found.next().unwrap_or_else(|| panic!("{what} in {trace}"))
    };
    let steps = [
        find("write of the image", &["write(", &format!("{id}.tmp>")]),
        find("fsync of the image", &["fsync(", &format!("{id}.tmp>")]),
        find("rename", &["rename", &format!("{id}.png")]),
        find("fsync of the folder", &["fsync(", &format!("<{bucket}>")]),
        find("answer", &["HTTP/1.1 200"]),
    ];
    for pair in steps.windows(2) {
        assert!(pair[0].over < pair[1].began, "{pair:#?}");
    }
    let sidecar = find("fsync of the metadata", &["fsync(", &format!("{id}.json>")]);
    assert!(sidecar.over < steps[2].began, "{sidecar:#?}");
    let names = [&group, base].map(|path| find("fsync of a name", &["fsync(", &format!("<{path}>")]));
    for name in &names {
        assert!(name.over < steps[4].began, "{name:#?}");
    }
    for step in steps.iter().take(4).chain(&[sidecar]).chain(&names) {
        assert!(!step.text.contains("= -1"), "{step:#?}");
    }
}

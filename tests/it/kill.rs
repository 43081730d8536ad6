//! A process that is killed before any one of its calls to the kernel loses nothing it acknowledged:
//! needs `strace` and the right to use it.
//!
//! In a bucket it is killed before or after any one of its requests has its effect.
//!
//! A worker saves, deletes and cleans, and notes what it begins and what it has done. It is run over
//! and over, and killed before its first rename, its second one, and so on, for every call that
//! changes the folder. `KILL_CYCLES` is how often; 50 if it is not set.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

mod answer;
mod bucket;
mod ledger;
mod worker;

use ledger::Ledger;
use worker::Place;

use crate::peers::left_out;

/// Calls that change the folder, by the names they have on one machine or another.
const CALLS: &str =
    "write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat";

/// Cycles that go on in one folder, each after what the one before left.
const CYCLES_IN_A_FOLDER: usize = 10;

/// What `strace` ends with when what it watches does.
const SIGKILL: i32 = 9;

/// The worker's test, which does nothing unless it is told where to.
const WORKER: &str = "kill::worker::worker_runs_where_it_is_told";

/// Runs the worker below `strace`; whether it came to its end. `None` if there is no `strace`.
fn run(arguments: &[&str], trace: &Path, folder: &Path, log: &Path) -> Option<bool> {
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "0", "-o"])
        .arg(trace)
        .args(arguments)
        .arg(env::current_exe().unwrap())
        .args(["--exact", WORKER])
        .env(worker::FOLDER, folder)
        .env(worker::LOG, log)
        .output();
    let reason = match output {
        Ok(output) => {
            let noted = fs::read_to_string(log).unwrap_or_default();
            match noted.lines().last() {
                Some("done") => return Some(true),
                // The harness writes, too: it may be killed before the worker begins.
                _ if output.status.signal() == Some(SIGKILL) => return Some(false),
                _ => format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stderr),
                    String::from_utf8_lossy(&output.stdout)
                ),
            }
        }
        Err(error) => error.to_string(),
    };
    left_out("strace", &reason);
    None
}

/// Every place to kill at: a call and its number, in the order of a table with a column a call, so
/// that any stretch of them has some of each.
fn places(trace: &str, folder: &Path) -> Vec<(String, usize)> {
    // strace counts by thread and call; one thread works on the folder.
    let mut counts = BTreeMap::<String, BTreeMap<String, usize>>::new();
    let mut worker = None;
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if arguments.contains(folder.to_str().unwrap()) {
            worker = Some(thread.to_owned());
        }
        *counts.entry(thread.to_owned()).or_default().entry(name.to_owned()).or_default() += 1;
    }
    let counts = counts.remove(&worker.expect("the worker works in the folder")).unwrap();
    let most = counts.values().copied().max().unwrap();
    let numbers = (1..=most).flat_map(|number| {
        counts.iter().filter(move |(_, count)| number <= **count).map(move |(name, _)| (name.clone(), number))
    });
    numbers.collect()
}

fn cycles() -> usize {
    env::var("KILL_CYCLES").map_or(50, |cycles| cycles.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_before_any_call_loses_nothing_acknowledged_and_leaves_nothing_after_a_sweep() {
    let cycles = cycles();
    let scratch = TempDir::new().unwrap();
    let file = |name: &str| -> PathBuf { scratch.path().canonicalize().unwrap().join(name) };
    let (trace, log) = (file("trace"), file("log"));

    let filter = format!("trace={CALLS}");
    let whole = file("whole");
    let Some(done) = run(&["-e", &filter], &trace, &whole, &log) else { return };
    assert!(done, "the worker comes to its end if it is let");
    let places = places(&fs::read_to_string(&trace).unwrap(), &whole);
    for call in ["write", "fsync", "rename", "unlink", "rmdir", "mkdir"] {
        assert!(places.iter().any(|(name, _)| name.starts_with(call)), "{call} in {places:?}");
    }
    let mut folder = whole.clone();
    let mut ledger = Ledger::new(Place::Folder(whole.clone()));
    ledger.read(&log);
    ledger.check().await;

    // Spread over all places; from one round to the next, the places in between.
    let stride = places.len().div_ceil(cycles).max(1);
    let spread = (0..stride).flat_map(|first| places.iter().skip(first).step_by(stride)).cycle();
    let mut killed = 0;
    for (cycle, (call, number)) in spread.take(cycles).enumerate() {
        if cycle % CYCLES_IN_A_FOLDER == 0 {
            folder = file(&format!("folder-{cycle}"));
            ledger = Ledger::new(Place::Folder(folder.clone()));
        }
        let _ = fs::remove_file(&log);
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let filter = format!("trace={call}");
        let arguments = ["-e", &filter, "-e", &inject];
        let done = run(&arguments, &trace, &folder, &log).expect("strace was there before");
        // Where something is there already, less is to be made: a folder, its name made durable. And
        // how often a thread has to be woken, which takes a write, differs from run to run.
        killed += usize::from(!done);
        ledger.read(&log);
        ledger.context = format!("killed before {call} {number}, cycle {cycle}");
        ledger.check().await;
        ledger.check_folder_after_a_sweep(&folder).await;
    }
    eprintln!("figure: {killed} kills in {cycles} cycles, spread over {} calls", places.len());
    assert!(killed * 10 >= cycles * 9, "{killed} of {cycles}");
}

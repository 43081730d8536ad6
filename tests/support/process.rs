//! The built binary as a process of its own: for what ends with a process, or belongs to one.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, until};

/// The binary, with nothing of this process's environment.
pub(crate) fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-image-server"));
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    // There is no `.env` file.
    command.current_dir(std::env::temp_dir());
    command
}

/// Runs a command to its end.
pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(variables);
    command.args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
    crate::client::within(run).await.expect("no panic")
}

/// A server that runs as a process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    address: String,
    folder: TempDir,
    log: Captured,
    output: Captured,
}

impl Process {
    /// Starts the server on a free port, with a folder of its own, and these variables besides.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let images = folder.path().join("images").to_str().expect("UTF-8").to_owned();
        let own = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("STORAGE_PATH", images.as_str()),
            ("STORAGE_SYNC", "off"),
            ("LOG_FORMAT", "json"),
            ("SHUTDOWN_DELAY", "0"),
        ];
        let mut command = command(&own);
        let mut child = command
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = Captured::of(child.stderr.take().expect("piped"));
        let output = Captured::of(child.stdout.take().expect("piped"));
        let mut process = Self { child, address: String::new(), folder, log, output };
        until(async || process.find_address()).await;
        process
    }

    /// Whether the server has said where it listens.
    fn find_address(&mut self) -> bool {
        let lines = self.log.lines();
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the server ended with {status}: {lines:#?}");
        }
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut serving = events.filter(|event| event["message"] == "serving");
        let Some(event) = serving.next() else { return false };
        event["addr"].as_str().expect("an address").clone_into(&mut self.address);
        true
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn authority(&self) -> &str {
        &self.address
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(""))
    }

    /// The folder of its store.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// The lines of its standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Waits until it ends; gives the exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        until(async || self.child.try_wait().expect("a child").is_some()).await;
        self.child.wait().expect("a child").code()
    }

    /// Waits until it ends; gives all it wrote, to standard output and to its log.
    pub(crate) async fn ended(mut self) -> (Vec<String>, Vec<String>) {
        assert_eq!(self.exit_code().await, Some(0));
        (self.output.end(), self.log.end())
    }

    /// The most memory that it has had, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that come out of a pipe.
struct Captured {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = String::from_utf8_lossy(&line.expect("a line")).into_owned();
                into.lock().expect("not poisoned").push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// All lines, once the pipe is closed.
    fn end(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        self.lines()
    }
}

//! The command line.

mod admin;
mod pages;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::LazyLock,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::{
    admin::{Destination, Error as AdminError, ImagesArgs, MigrateArgs, run_images, run_migrate},
    pages::{run_completions, run_man},
};
use crate::{
    config::{self, Config, Loaded, Report, Source},
    metrics::{COMMIT, VERSION},
};

/// `EX_CONFIG` of sysexits: the configuration is wrong, and trying again will not help.
pub const EXIT_CONFIG: u8 = 78;

/// How long `health` waits for an answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

static LONG_VERSION: LazyLock<String> = LazyLock::new(|| match COMMIT {
    // Twelve digits are enough to tell commits apart, and few enough to read.
    Some(commit) => format!("{VERSION} ({})", commit.get(..12).unwrap_or(commit)),
    None => VERSION.to_owned(),
});

const AFTER_HELP: &str = "\
Configuration is by environment variables, or a .env file in the working directory. The most important ones:
  HOST, PORT               where to listen (0.0.0.0, 8000)
  PUBLIC_BASE_URL          what image URLs start with (http://localhost:PORT)
  KSERVE_ENDPOINT          the predictor, such as http://host:port/v1/models/stable-diffusion;
                           without it a procedural artist draws, which is no model
  KSERVE_MODEL_NAME        the model, where the endpoint does not name it (stable-diffusion)
  STORAGE_BACKEND          file or memory (file)
  STORAGE_PATH             the folder of images (/tmp/mcp-images)
  IMAGE_TTL                seconds that an image lives (3600)
  LOG_LEVEL, LOG_FORMAT    INFO; json or pretty

`mcp-image-server check` prints them all with their values in effect; docs/configuration.md describes each.
Exit codes: 0 all is well, 1 something failed, 2 wrong usage, 78 wrong configuration.";

/// An MCP server that turns a prompt into an image and hands back a URL.
#[derive(Debug, Clone, Parser)]
#[command(name = "mcp-image-server", version = LONG_VERSION.as_str(), after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; without it, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Read variables from this file instead of .env.
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the server (the default).
    Serve,
    /// Validate the configuration and print it as it is in effect, secrets masked.
    Check,
    /// Run one cleaning cycle on the store: remove expired images and leftovers.
    Clean {
        /// Print the counts as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List, show, delete or verify the images of the configured store.
    Images(ImagesArgs),
    /// Copy all images of the configured store to another one, and verify them there. What is there already is not
    /// copied again: run it once more to go on, or for what was saved meanwhile.
    Migrate(MigrateArgs),
    /// Ask the running server whether it is alive; exit 0 or 1, for container health checks.
    Health,
    /// Print a script that completes this command line in a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page.
    Man,
    /// Print the reference of all variables.
    #[command(hide = true)]
    ConfigDocs {
        /// What to print.
        #[arg(long, value_enum, default_value_t = DocsFormat::Markdown)]
        format: DocsFormat,
    },
}

/// The form in which variables are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DocsFormat {
    /// The page `docs/configuration.md`.
    Markdown,
    /// The file `.env.example`.
    Env,
}

/// Reads the command line of this process. Wrong usage, `--help` and `--version` end it.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

impl Cli {
    /// The command, given or not.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Serve)
    }

    /// The environment of this process over its file of variables.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::process(self.env_file.as_deref())
    }

    /// Loads the configuration, or tells everything that is wrong on standard error.
    ///
    /// # Errors
    /// The exit code for a wrong configuration.
    pub fn load(&self) -> Result<Loaded, ExitCode> {
        Config::load(self.source()).map_err(|problems| {
            print(io::stderr(), &format!("mcp-image-server: {problems}"));
            ExitCode::from(EXIT_CONFIG)
        })
    }
}

/// `check`: prints the configuration in effect.
pub fn run_check(source: Source) -> ExitCode {
    check(source, io::stdout(), io::stderr())
}

/// `health`: asks the server that runs with this configuration whether it is alive.
pub fn run_health(source: Source) -> ExitCode {
    let asked = match Config::load(source) {
        Ok(loaded) => health(&loaded.config),
        Err(problems) => Err(problems.to_string()),
    };
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            print(io::stderr(), &format!("mcp-image-server: {reason}\n"));
            ExitCode::FAILURE
        }
    }
}

/// `config-docs`: prints the reference of all variables.
pub fn run_config_docs(format: DocsFormat) -> ExitCode {
    let text = match format {
        DocsFormat::Markdown => config::reference(),
        DocsFormat::Env => config::env_example(),
    };
    print(io::stdout(), &text);
    ExitCode::SUCCESS
}

fn check(source: Source, out: impl io::Write, err: impl io::Write) -> ExitCode {
    match Config::load(source) {
        Ok(loaded) => {
            print(out, &Report(&loaded).to_string());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            print(err, &format!("mcp-image-server: {problems}"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// A reader that has gone away (`check | head`) is no failure.
fn print(mut to: impl io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

fn health(config: &Config) -> Result<(), String> {
    let url = health_url(&config.serve.host, config.serve.port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        // Plain HTTP to this machine: no proxy, and no certificates to load.
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_built_in_root_certs(false)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(HEALTH_TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        match client.get(&url).send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("{url} answered {}", response.status())),
            Err(error) => Err(format!("{url} does not answer: {}", root_cause(&error))),
        }
    })
}

/// Where a server that listens on `host` can be asked from the same machine.
fn health_url(host: &str, port: u16) -> String {
    let authority = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
        }
        Ok(IpAddr::V6(address)) if address.is_unspecified() => {
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)).to_string()
        }
        Ok(address) => SocketAddr::from((address, port)).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    format!("http://{authority}/health/live")
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    fn command(arguments: &[&str]) -> Cli {
        let all = std::iter::once("mcp-image-server").chain(arguments.iter().copied());
        Cli::try_parse_from(all).expect("a command line")
    }

    fn source(pairs: &[(&str, &str)]) -> Source {
        Source::environment(pairs.iter().copied())
    }

    #[test]
    fn command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn command_left_out_is_serve() {
        assert_eq!(command(&[]).command(), Command::Serve);
        assert_eq!(command(&["serve"]).command(), Command::Serve);
        assert_eq!(command(&["clean", "--json"]).command(), Command::Clean { json: true });
    }

    #[test]
    fn images_and_migrate_are_read_from_the_command_line() {
        let id = crate::image::ImageId::now().to_string();
        for arguments in [
            &["images", "list", "--prefix", "0198", "--limit", "5", "--cursor", &id, "--json"][..],
            &["images", "--json", "show", &id],
            &["images", "delete", &id, &id],
            &["images", "verify"],
            &["migrate", "--to", "file", "--path", "/tmp/x", "--json"],
            &["migrate", "--to", "s3"],
        ] {
            command(arguments);
        }
        for arguments in [&["images"][..], &["images", "delete"], &["images", "show", "../x"], &["migrate"]] {
            let all = std::iter::once("mcp-image-server").chain(arguments.iter().copied());
            assert!(Cli::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn env_file_is_taken_before_and_after_the_command() {
        for arguments in [["--env-file", "x.env", "check"], ["check", "--env-file", "x.env"]] {
            assert_eq!(command(&arguments).env_file, Some(PathBuf::from("x.env")), "{arguments:?}");
        }
    }

    #[test]
    fn help_names_variables_that_exist() {
        let words = AFTER_HELP.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let named = words.filter(|word| word.contains('_') || matches!(*word, "HOST"));
        for word in named {
            assert!(config::variables().any(|variable| variable.name == word), "{word}");
        }
    }

    #[test]
    fn check_prints_values_origins_and_warnings_but_no_secret() {
        let source = source(&[
            ("KSERVE_ENDPOINT", "http://predictor:8080"),
            ("KSERVE_BEARER_TOKEN", "hunter2"),
            ("STORAGE_BACKED", "memory"),
        ])
        .with_env_text("x.env", "PORT=9000\nKSERVE_HEADERS='X-Key: hunter2'\n");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(check(source, &mut out, &mut err), ExitCode::SUCCESS);
        let (out, err) = (String::from_utf8(out).expect("UTF-8"), String::from_utf8(err).expect("UTF-8"));
        let row = |name: &str| {
            let line = out.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {out}")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("PORT"), "PORT x.env line 1 9000");
        assert_eq!(row("KSERVE_BEARER_TOKEN"), "KSERVE_BEARER_TOKEN environment ***");
        assert_eq!(row("KSERVE_HEADERS"), "KSERVE_HEADERS x.env line 2 X-Key: ***");
        assert_eq!(row("PUBLIC_BASE_URL"), "PUBLIC_BASE_URL default http://localhost:9000");
        assert_eq!(row("PREDICTOR"), "PREDICTOR default kserve");
        assert!(out.starts_with("warning: STORAGE_BACKED is not a variable"), "{out}");
        assert!(!out.contains("hunter2") && err.is_empty());
    }

    #[test]
    fn check_of_a_wrong_configuration_exits_78_and_tells_all() {
        let source = source(&[("PORT", "eighty"), ("IMAGE_TTL", "-1")]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(check(source, &mut out, &mut err), ExitCode::from(78));
        let err = String::from_utf8(err).expect("UTF-8");
        assert!(
            out.is_empty() && err.contains("PORT is `eighty`") && err.contains("IMAGE_TTL is `-1`"),
            "{err}"
        );
    }

    #[test]
    fn health_url_of_an_unspecified_address_is_loopback() {
        for (host, expected) in [
            ("0.0.0.0", "http://127.0.0.1:80/health/live"),
            ("::", "http://[::1]:80/health/live"),
            ("10.0.0.1", "http://10.0.0.1:80/health/live"),
            ("::1", "http://[::1]:80/health/live"),
            ("localhost", "http://localhost:80/health/live"),
        ] {
            assert_eq!(health_url(host, 80), expected);
        }
    }

    #[test]
    fn health_follows_the_status_of_the_answer() {
        for (status, expected) in [("200 OK", ExitCode::SUCCESS), ("503 Busy", ExitCode::FAILURE)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port().to_string();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 1024];
                let length = stream.read(&mut request).expect("a request");
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("answered");
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            let asked = run_health(source(&[("HOST", "127.0.0.1"), ("PORT", &port)]));
            let request = server.join().expect("no panic");
            assert!(request.starts_with("GET /health/live HTTP/1.1\r\n"), "{request}");
            assert_eq!(asked, expected, "{status}");
        }
    }

    #[test]
    fn health_of_an_absent_server_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port().to_string();
        drop(listener);
        assert_eq!(run_health(source(&[("HOST", "127.0.0.1"), ("PORT", &port)])), ExitCode::FAILURE);
        assert_eq!(run_health(source(&[("PORT", "x")])), ExitCode::FAILURE);
    }
}

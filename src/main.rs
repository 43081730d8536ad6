//! The binary: configuration, telemetry, build, run, drain. The library has the map.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use mcp_image_server::{
    app::{self, App},
    cli::{self, Cli, Command},
    config::{Config, Loaded},
    metrics, telemetry,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::{error, info, warn};

/// What a command ends with where it does not end well.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let cli = cli::parse();
    match cli.command() {
        Command::Serve => with_config(&cli, serve),
        Command::Clean { json } => with_config(&cli, |config| clean(config, json)),
        Command::Images(args) => {
            with_config(&cli, |config| Ok(runtime(config.workers)?.block_on(cli::run_images(&config, args))?))
        }
        Command::Migrate(args) => {
            with_config(
                &cli,
                |config| Ok(runtime(config.workers)?.block_on(cli::run_migrate(&config, args))?),
            )
        }
        Command::Check => cli::run_check(cli.source()),
        Command::Health => cli::run_health(cli.source()),
        Command::Completions { shell } => cli::run_completions(shell),
        Command::Man => cli::run_man(),
        Command::ConfigDocs { format } => cli::run_config_docs(format),
    }
}

/// Runs a command that needs the configuration and the log.
fn with_config(cli: &Cli, run: impl FnOnce(Config) -> Result<(), Failure>) -> ExitCode {
    let Loaded { config, warnings, .. } = match cli.load() {
        Ok(loaded) => loaded,
        Err(exit_code) => return exit_code,
    };
    let result = telemetry::init(&config.telemetry).map_err(Failure::from).and_then(|()| {
        for warning in warnings {
            warn!("configuration: {warning}");
        }
        run(config)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what is behind it, on one line; what it says already is not said again.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

fn serve(config: Config) -> Result<(), Failure> {
    let exporter = metrics::install()?;
    let delay = config.serve.shutdown_delay;
    let runtime = runtime(config.workers)?;
    runtime.block_on(async {
        let app = App::build(config, exporter).await?;
        // The log goes to standard error; this is for the person who started the server.
        let _ = io::stdout().write_all(app.banner().as_bytes());
        app.run(shutdown(delay)?).await;
        Ok::<_, Failure>(())
    })?;
    // What did not finish within the grace is cut off, not waited for.
    runtime.shutdown_background();
    Ok(())
}

fn clean(config: Config, json: bool) -> Result<(), Failure> {
    let cleaned = runtime(1)?.block_on(app::clean(config))?;
    let line = if json { serde_json::to_string(&cleaned)? } else { cleaned.to_string() };
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn runtime(workers: usize) -> io::Result<Runtime> {
    use tokio::runtime::Builder;

    // One thread alone has nobody to share work with: without the queues for that, tails are much shorter.
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers).enable_all().build()
}

/// Waits for SIGTERM or SIGINT and gives the delay before new requests are no longer taken: with
/// SIGTERM load balancers need a moment to notice; a person's Ctrl-C need not wait. A second
/// signal ends the process at once.
fn shutdown(delay: Duration) -> io::Result<impl Future<Output = Duration>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let delay = tokio::select! {
            _ = terminate.recv() => delay,
            _ = interrupt.recv() => Duration::ZERO,
        };
        info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            warn!("second signal: stopping at once");
            std::process::exit(130);
        });
        delay
    })
}

//! The configuration, from the environment and a `.env` file into each room's `Config`.
//!
//! Each room has its table of variables here. A table is the single truth about its variables: it
//! drives reading, the report of `check` and the reference in `docs/configuration.md`.

mod docs;
mod dotenv;
mod generate;
mod images;
mod names;
mod predictor;
mod problems;
mod process;
mod reader;
mod report;
mod serve;
mod source;
mod stack;
mod storage;
mod syntax;
mod traces;
mod variable;

#[cfg(test)]
mod tests;

pub use self::{
    docs::{env_example, reference},
    problems::{Problem, Problems, Warning},
    report::{Effective, Report},
    source::{DEFAULT_ENV_FILE, Machine, Origin, Source},
    variable::{Default, Kind, Variable},
};

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads of the runtime, never more than cores.
    pub workers: usize,
    /// What URLs in answers start with, without a trailing slash.
    pub public_base_url: String,
    /// The log.
    pub telemetry: crate::telemetry::Config,
    /// Where traces go, if they go anywhere.
    pub traces: Option<crate::telemetry::traces::Config>,
    /// Connections.
    pub serve: crate::serve::Config,
    /// Who may ask.
    pub stack: crate::stack::Config,
    /// Where images live.
    pub storage: crate::storage::Config,
    /// What an S3 backend needs, if a bucket is named.
    pub s3: Option<crate::storage::S3Config>,
    /// Who draws.
    pub predictor: crate::predictor::Config,
    /// The pipeline.
    pub generate: crate::generate::Config,
    /// How images are delivered.
    pub images: crate::images::Config,
    /// The cleaner.
    pub cleaner: crate::cleaner::Config,
}

/// A configuration that is right, and what is to be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What looks wrong all the same.
    pub warnings: Vec<Warning>,
    /// Every variable with its value in effect.
    pub effective: Vec<Effective>,
}

/// The variables of one room.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// A heading.
    pub title: &'static str,
    /// Its variables, in the order in which they are documented.
    pub variables: &'static [Variable],
}

/// Every room that has variables.
pub const ROOMS: [Room; 8] = [
    Room { title: "Process", variables: process::TABLE },
    Room { title: "Listeners and connections", variables: serve::TABLE },
    Room { title: "Who may ask", variables: stack::TABLE },
    Room { title: "Predictor", variables: predictor::TABLE },
    Room { title: "Generation and images", variables: generate::TABLE },
    Room { title: "Delivery of images", variables: images::TABLE },
    Room { title: "Storage", variables: storage::TABLE },
    Room { title: "Traces", variables: traces::TABLE },
];

impl Config {
    /// Reads a source whole.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn load(source: Source) -> Result<Loaded, Problems> {
        let mut reader = reader::Reader::new(source);
        let config = Self::read(&mut reader);
        let effective = report::effective(&reader);
        let (problems, warnings) = reader.into_findings();
        if problems.is_empty() { Ok(Loaded { config, warnings, effective }) } else { Err(Problems(problems)) }
    }

    fn read(reader: &mut reader::Reader) -> Self {
        let telemetry = process::telemetry(reader);
        let traces = traces::read(reader, &telemetry.service_name);
        let workers = process::workers(reader);
        let serve = serve::read(reader);
        let public_base_url = process::public_base_url(reader, serve.port);
        let limits = generate::limits(reader);
        let (predictor, prediction_timeout) = predictor::read(reader, limits.max_bytes);
        let mut generate = generate::read(reader, limits, &predictor);
        let mut stack = stack::read(reader, &public_base_url, generate.queue_timeout, prediction_timeout);
        generate.timeout = stack.generation_timeout;
        let (images, cdn) = images::read(reader, &public_base_url, limits);
        generate.urls = images.urls.clone();
        if let Some(cdn) = cdn {
            stack::allow(&mut stack, &cdn);
        }
        let (storage, s3) = storage::read(reader, limits.max_bytes);
        let quota = storage::quota(reader, limits.max_bytes);
        let cleaner = generate::cleaner(reader, generate.image_ttl, quota);
        Self {
            workers,
            public_base_url,
            telemetry,
            traces,
            serve,
            stack,
            storage,
            s3,
            predictor,
            generate,
            images,
            cleaner,
        }
    }
}

/// Every variable of every room.
pub fn variables() -> impl Iterator<Item = &'static Variable> {
    ROOMS.iter().flat_map(|room| room.variables)
}

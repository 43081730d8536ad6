//! The configuration, from any environment and any `.env` file.
//!
//! Invariants: it is either whole or every problem has a text; no secret is in either.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::config::{Config, Machine, Source, variables};

const SECRET: &str = "s3cret-Value";

fuzz_target!(|input: (Vec<(u8, String)>, String)| {
    let (pairs, file) = input;
    let names: Vec<_> = variables().map(|variable| variable.name).collect();
    let environment = pairs
        .into_iter()
        .map(|(index, value)| (names[usize::from(index) % names.len()], value))
        .chain([("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()), ("KSERVE_BEARER_TOKEN", SECRET.to_owned())]);
    let source = Source::environment(environment)
        .with_env_text(".env", &file)
        .on(Machine { cores: 2, terminal: false });
    let told = match Config::load(source) {
        Ok(loaded) => {
            assert!(loaded.config.workers >= 1);
            assert!(loaded.config.serve.shutdown_delay < loaded.config.serve.shutdown_grace);
            format!("{loaded:?}")
        }
        Err(problems) => {
            let told = problems.to_string();
            assert!(!told.is_empty());
            told
        }
    };
    assert!(file.contains(SECRET) || !told.contains(SECRET), "{told}");
});

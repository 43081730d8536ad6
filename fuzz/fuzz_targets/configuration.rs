//! The configuration, from any environment and any `.env` file.
//!
//! The input is lines of `NAME=value` for the environment, a line `---`, and the text of a `.env`
//! file. `{secret}` in the environment stands for a secret where one may stand: in the value of a
//! secret variable, behind the name of a header, and in a URL's password.
//!
//! Invariants: a configuration is either whole or every problem has a line of its own; no secret and
//! no control character is in what is told; loading again comes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::config::{Config, Kind, Machine, Report, Source, Variable, variables};
use support::script::split_once;

const SECRET: &str = "hunter2-Correct-Horse";
const PLACEHOLDER: &str = "{secret}";

fuzz_target!(|input: &[u8]| {
    let (environment, file) = split_once(input, b"\n---\n").unwrap_or((input, b""));
    let (Ok(environment), Ok(file)) = (std::str::from_utf8(environment), std::str::from_utf8(file)) else {
        return;
    };
    if environment.contains(SECRET) || file.contains(SECRET) {
        return;
    }
    let pairs: Vec<(&str, String)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, with_secret(name, value)))
        .collect();
    let source =
        Source::environment(pairs).with_env_text(".env", file).on(Machine { cores: 2, terminal: false });
    let (told, lines) = told(source.clone());
    assert!(!told.contains(SECRET), "{told}");
    assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
    if let Some(lines) = lines {
        assert_eq!(told.lines().count(), lines, "a problem has one line: {told}");
    }
    assert_eq!(self::told(source).0, told);
});

/// What is told of a source, and how many lines of problems it is.
fn told(source: Source) -> (String, Option<usize>) {
    match Config::load(source) {
        Ok(loaded) => {
            let config = &loaded.config;
            assert!((1..=2).contains(&config.workers));
            assert!(config.serve.shutdown_delay < config.serve.shutdown_grace);
            assert!(config.stack.generation_timeout > config.generate.queue_timeout);
            assert!(!config.public_base_url.ends_with('/'));
            assert!(loaded.effective.iter().all(|row| !row.value.contains('\n')));
            // `Debug` may end up in a log.
            assert!(!format!("{loaded:?}").contains(SECRET));
            (Report(&loaded).to_string(), None)
        }
        Err(problems) => {
            assert!(!problems.0.is_empty() && !format!("{problems:?}").contains(SECRET));
            (problems.to_string(), Some(problems.0.len() + 1))
        }
    }
}

/// `value` with the secret in its places.
fn with_secret(name: &str, value: &str) -> String {
    match variables().find(|variable| variable.name.eq_ignore_ascii_case(name)) {
        Some(Variable { kind: Kind::Secret(_), .. }) => value.replace(PLACEHOLDER, SECRET),
        Some(Variable { kind: Kind::Headers(_), .. }) => match value.split_once(':') {
            Some((name, value)) => format!("{name}:{}", value.replace(PLACEHOLDER, SECRET)),
            None => value.to_owned(),
        },
        Some(_) => value.replace("//user:{secret}@", &format!("//user:{SECRET}@")),
        None => value.to_owned(),
    }
}

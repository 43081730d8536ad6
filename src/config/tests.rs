//! Whole configurations, from a map.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use super::*;
use crate::{
    predictor::Bearer,
    stack::Listing,
    storage::{Backend, Delivery},
    telemetry::Format,
};

const MACHINE: Machine = Machine { cores: 2, terminal: false };

fn load(pairs: &[(&str, &str)]) -> Result<Loaded, Problems> {
    Config::load(Source::environment(pairs.iter().copied()).on(MACHINE))
}

fn config(pairs: &[(&str, &str)]) -> Config {
    load(pairs).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    load(pairs).expect_err("refused").0.iter().map(ToString::to_string).collect()
}

fn warnings(pairs: &[(&str, &str)]) -> Vec<String> {
    let loaded = load(pairs).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

fn kserve(pairs: &[(&str, &str)]) -> crate::predictor::KserveV1Config {
    let endpoint = [("KSERVE_ENDPOINT", "http://predictor:8080")];
    let pairs: Vec<_> = endpoint
        .into_iter()
        .filter(|(name, _)| !pairs.iter().any(|(n, _)| n == name))
        .collect::<Vec<_>>()
        .into_iter()
        .chain(pairs.iter().copied())
        .collect();
    match config(&pairs).predictor {
        crate::predictor::Config::KserveV1(config) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_given_takes_the_documented_defaults() {
    let loaded = load(&[]).expect("valid");
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!((config.workers, config.public_base_url.as_str()), (2, "http://localhost:8000"));
    assert_eq!(config.telemetry.service_name, "mcp-image-server");
    assert_eq!((config.telemetry.level.as_str(), config.telemetry.format), ("INFO", Format::Json));
    assert_eq!(
        (config.serve.host.as_str(), config.serve.port, config.serve.metrics_port),
        ("0.0.0.0", 8000, None)
    );
    assert_eq!(config.serve.max_connections, 4096);
    let seconds = Duration::from_secs;
    assert_eq!((config.serve.head_timeout, config.serve.write_timeout), (seconds(10), seconds(30)));
    assert_eq!((config.serve.shutdown_delay, config.serve.shutdown_grace), (seconds(2), seconds(25)));
    assert_eq!(config.stack.listing, Listing::Auto);
    let rate = config.stack.request_rate.expect("limited");
    assert_eq!((rate.per_second.get(), rate.burst.get()), (50, 200));
    let rate = config.stack.image_rate.expect("limited");
    assert_eq!((rate.per_second.get(), rate.burst.get()), (500, 2000));
    assert_eq!(config.stack.max_request_bytes, 1024 * 1024);
    assert_eq!(
        (config.stack.request_timeout, config.stack.generation_timeout),
        (seconds(30), seconds(120 + 60 + 30))
    );
    assert_eq!(config.stack.allowed_hosts, ["localhost"]);
    assert_eq!(config.stack.allowed_origins, ["http://localhost:8000"]);
    assert!(config.stack.trusted_proxies.is_empty() && config.s3.is_none());
    assert!(
        matches!(&config.storage.backend, Backend::File { path } if path.as_os_str() == "/tmp/mcp-images")
    );
    assert!(config.storage.sync);
    assert!(matches!(config.predictor, crate::predictor::Config::Embedded));
    assert_eq!((config.generate.concurrency, config.generate.queue_size), (2, 256));
    assert_eq!(config.generate.image_ttl, seconds(3600));
    assert_eq!(
        (config.generate.limits.max_bytes, config.generate.limits.max_pixels),
        (10_485_760, 16_777_216)
    );
    assert_eq!(config.cleaner.interval, seconds(300));
}

#[test]
fn every_variable_reaches_its_room() {
    let config = config(&[
        ("service_name", "painter"),
        ("LOG_LEVEL", "debug,h2=info"),
        ("LOG_FORMAT", "Pretty"),
        ("HOST", "[::1]"),
        ("PORT", "9000"),
        ("WORKERS", "1"),
        ("METRICS_PORT", "9001"),
        ("PUBLIC_BASE_URL", "https://Images.Example/a/"),
        ("STORAGE_BACKEND", "memory"),
        ("STORAGE_SYNC", "off"),
        ("STORAGE_MEMORY_MAX_BYTES", "104857600"),
        ("GENERATION_CONCURRENCY", "3"),
        ("GENERATION_QUEUE_SIZE", "0"),
        ("GENERATION_QUEUE_TIMEOUT", "7.5"),
        ("GENERATION_TIMEOUT", "100"),
        ("ALLOWED_HOSTS", "a.example, B.example:8443,"),
        ("ALLOWED_ORIGINS", "https://app.example"),
        ("TRUSTED_PROXIES", "10.1.2.3/8, fd00::1"),
        ("IMAGE_LISTING", "off"),
        ("REQUEST_RATE", "0"),
        ("IMAGE_RATE", "7"),
        ("IMAGE_BURST", "8"),
        ("MAX_REQUEST_BYTES", "2048"),
        ("REQUEST_TIMEOUT", "1"),
        ("MAX_CONNECTIONS", "5"),
        ("HEAD_TIMEOUT", "0.5"),
        ("WRITE_TIMEOUT", "6"),
        ("SHUTDOWN_DELAY", "0"),
        ("SHUTDOWN_GRACE", "1"),
        ("IMAGE_TTL", "60"),
        ("IMAGE_CLEANUP_INTERVAL", "30"),
        ("MAX_IMAGE_SIZE", "2048"),
        ("MAX_IMAGE_PIXELS", "4096"),
    ]);
    assert_eq!(
        (config.telemetry.service_name.as_str(), config.telemetry.format),
        ("painter", Format::Pretty)
    );
    assert_eq!(config.telemetry.level, "debug,h2=info");
    assert_eq!(
        (config.serve.host.as_str(), config.serve.port, config.serve.metrics_port),
        ("::1", 9000, Some(9001))
    );
    assert_eq!((config.workers, config.public_base_url.as_str()), (1, "https://images.example/a"));
    assert!(matches!(config.storage.backend, Backend::Memory { max_bytes: 104_857_600 }));
    assert!(!config.storage.sync);
    assert_eq!((config.generate.concurrency, config.generate.queue_size), (3, 0));
    assert_eq!(config.generate.queue_timeout, Duration::from_millis(7500));
    assert_eq!(config.stack.generation_timeout, Duration::from_secs(100));
    assert_eq!(config.generate.timeout, Duration::from_secs(100));
    assert_eq!(config.stack.allowed_hosts, ["a.example", "b.example:8443", "images.example"]);
    assert_eq!(config.stack.allowed_origins, ["https://app.example", "https://images.example"]);
    let networks: Vec<_> = config.stack.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "fd00::1/128"]);
    assert!(config.stack.trusted_proxies[0].contains(&IpAddr::from([10, 9, 9, 9])));
    assert_eq!(config.stack.listing, Listing::Off);
    assert_eq!(config.stack.request_rate, None);
    assert_eq!(config.stack.image_rate.map(|rate| (rate.per_second.get(), rate.burst.get())), Some((7, 8)));
    assert_eq!(
        (config.stack.max_request_bytes, config.stack.request_timeout),
        (2048, Duration::from_secs(1))
    );
    assert_eq!((config.serve.max_connections, config.serve.head_timeout), (5, Duration::from_millis(500)));
    assert_eq!(
        (config.serve.shutdown_delay, config.serve.shutdown_grace),
        (Duration::ZERO, Duration::from_secs(1))
    );
    assert_eq!(
        (config.generate.image_ttl, config.cleaner.interval),
        (Duration::from_secs(60), Duration::from_secs(30))
    );
    assert_eq!((config.generate.limits.max_bytes, config.generate.limits.max_pixels), (2048, 4096));
}

#[test]
fn kserve_is_chosen_by_its_endpoint() {
    let config = config(&[("KSERVE_ENDPOINT", "http://predictor:8080"), ("KSERVE_TIMEOUT", "90.5")]);
    assert_eq!(config.generate.concurrency, 1);
    assert_eq!(config.stack.generation_timeout, Duration::from_millis((120 + 30) * 1000 + 90_500));
    let kserve = kserve(&[]);
    assert_eq!(kserve.predict_url.as_str(), "http://predictor:8080/v1/models/stable-diffusion:predict");
    assert_eq!(kserve.model_url.as_str(), "http://predictor:8080/v1/models/stable-diffusion");
    assert_eq!((kserve.model_name.as_str(), kserve.max_retries), ("stable-diffusion", 3));
    assert_eq!((kserve.timeout, kserve.connect_timeout), (Duration::from_secs(60), Duration::from_secs(5)));
    assert_eq!(kserve.max_image_bytes, 10_485_760);
    assert!(!kserve.takes_seed && kserve.bearer.is_none() && kserve.headers.is_empty());
}

#[test]
fn kserve_variables_reach_the_predictor() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "pem").expect("written");
    let kserve = kserve(&[
        ("KSERVE_ENDPOINT", "https://gateway/v1/models/flux"),
        ("KSERVE_TAKES_SEED", "Yes"),
        ("KSERVE_OMIT_PARAMETERS", "negative_prompt, SEED"),
        ("KSERVE_BEARER_TOKEN", "hunter2"),
        ("KSERVE_HEADERS", "X-Route: blue; X-Key: hunter2"),
        ("KSERVE_HOST_HEADER", "sd.default.example"),
        ("KSERVE_CA_FILE", ca.to_str().expect("UTF-8")),
        ("KSERVE_MAX_RETRIES", "0"),
        ("KSERVE_CONNECT_TIMEOUT", "0.25"),
    ]);
    assert_eq!(kserve.model_name, "flux");
    assert!(kserve.takes_seed);
    assert_eq!(kserve.omit_parameters, ["negative_prompt", "seed"]);
    assert!(matches!(&kserve.bearer, Some(Bearer::Value(token)) if token.expose() == "hunter2"));
    assert_eq!(kserve.headers.len(), 2);
    assert_eq!(kserve.host.as_ref().expect("given"), "sd.default.example");
    assert_eq!(kserve.ca_file.as_deref(), Some(ca.as_path()));
    assert_eq!((kserve.max_retries, kserve.connect_timeout), (0, Duration::from_millis(250)));
    assert!(!format!("{kserve:?}").contains("hunter2"), "{kserve:?}");
}

#[test]
fn bearer_file_that_is_absent_is_a_warning() {
    let pairs = [("KSERVE_ENDPOINT", "http://predictor"), ("KSERVE_BEARER_TOKEN_FILE", "/nowhere/token")];
    assert_eq!(warnings(&pairs), ["KSERVE_BEARER_TOKEN_FILE: /nowhere/token is not there yet"]);
    assert!(matches!(kserve(&pairs).bearer, Some(Bearer::File(_))));
}

#[test]
fn problems_are_told_together_with_name_value_and_what_is_allowed() {
    let told = problems(&[
        ("PORT", "80000"),
        ("IMAGE_TTL", "soon"),
        ("STORAGE_BACKEND", "floppy"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2 hunter2"),
        ("ALLOWED_HOSTS", "a.example, http://b.example"),
        ("PREDICTOR", "kserve"),
    ]);
    for expected in [
        "PORT is `80000`; allowed: a whole number from 0 to 65535",
        "IMAGE_TTL is `soon`; allowed: a number of seconds from 1 to 315360000",
        "STORAGE_BACKEND is `floppy`; allowed: file, memory, s3",
        "AWS_SECRET_ACCESS_KEY is `***`; allowed: visible ASCII characters without spaces",
    ] {
        assert!(told.iter().any(|problem| problem == expected), "{expected} in {told:?}");
    }
    assert!(told.iter().any(|problem| problem.ends_with("(`http://b.example` is neither)")), "{told:?}");
    assert!(told.iter().any(|problem| problem.starts_with("KSERVE_ENDPOINT is not set;")), "{told:?}");
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn problem_display_gives_one_line_each() {
    let text = load(&[("PORT", "a\nb"), ("HOST", "\u{1b}[31m")]).expect_err("refused").to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("the configuration has 2 problems:\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn value_out_of_range_is_refused_by_name() {
    for (name, value) in [
        ("PORT", "-1"),
        ("PORT", "+1"),
        ("PORT", "0x50"),
        ("PORT", "99999999999999999999999"),
        ("WORKERS", "0"),
        ("METRICS_PORT", "http"),
        ("SERVICE_NAME", "a\u{7}b"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("HOST", "http://localhost"),
        ("PUBLIC_BASE_URL", "http://0.0.0.0:8000"),
        ("PUBLIC_BASE_URL", "localhost:8000"),
        ("STORAGE_PATH", "~/images"),
        ("STORAGE_PATH", "a\0b"),
        ("STORAGE_SYNC", "maybe"),
        ("STORAGE_MEMORY_MAX_BYTES", "1"),
        ("S3_BUCKET", "My_Bucket"),
        ("S3_PREFIX", "/images"),
        ("S3_PREFIX", "a//b"),
        ("S3_PREFIX", "a/../b"),
        ("S3_ENDPOINT_URL", "s3.example"),
        ("AWS_REGION", "US East"),
        ("PREDICTOR", "openai"),
        ("PREDICTOR", "open-inference"),
        ("KSERVE_ENDPOINT", "predictor:8080"),
        ("KSERVE_ENDPOINT", "http://me:pw@predictor"),
        ("KSERVE_MODEL_NAME", "a/b"),
        ("KSERVE_TIMEOUT", "0"),
        ("KSERVE_TIMEOUT", "inf"),
        ("KSERVE_TIMEOUT", "NaN"),
        ("KSERVE_TIMEOUT", "1e3"),
        ("KSERVE_TIMEOUT", "60s"),
        ("KSERVE_TIMEOUT", "."),
        ("KSERVE_MAX_RETRIES", "21"),
        ("KSERVE_OMIT_PARAMETERS", "prompt"),
        ("KSERVE_OMIT_PARAMETERS", "colour"),
        ("KSERVE_BEARER_TOKEN", "two words"),
        ("KSERVE_HEADERS", "nonsense"),
        ("KSERVE_HEADERS", "Host: x"),
        ("KSERVE_HOST_HEADER", "http://x"),
        ("KSERVE_CA_FILE", "/nowhere/ca.pem"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("ALLOWED_ORIGINS", "app.example"),
        ("ALLOWED_HOSTS", "*"),
        ("IMAGE_LISTING", "true"),
        ("REQUEST_RATE", "1.5"),
        ("REQUEST_BURST", "0"),
        ("GENERATION_CONCURRENCY", "0"),
        ("IMAGE_TTL", "0"),
        ("MAX_IMAGE_SIZE", "10MB"),
    ] {
        let found = load(&[(name, value)]).expect_err(name).0;
        assert!(
            matches!(&found[..], [Problem::Invalid { name: told, .. }] if *told == name),
            "{name}={value}: {found:?}"
        );
    }
}

#[test]
fn values_that_do_not_agree_are_refused() {
    let endpoint = ("KSERVE_ENDPOINT", "http://predictor");
    for pairs in [
        &[("PORT", "9000"), ("METRICS_PORT", "9000")][..],
        &[("SHUTDOWN_DELAY", "5"), ("SHUTDOWN_GRACE", "5")],
        &[endpoint, ("KSERVE_BEARER_TOKEN", "a"), ("KSERVE_BEARER_TOKEN_FILE", "/b")],
        &[endpoint, ("KSERVE_BEARER_TOKEN", "a"), ("KSERVE_HEADERS", "Authorization: b")],
    ] {
        let found = load(pairs).expect_err("refused").0;
        assert!(matches!(&found[..], [Problem::Conflict { .. }]), "{pairs:?}: {found:?}");
    }
}

#[test]
fn ports_left_to_the_system_agree() {
    assert_eq!(config(&[("PORT", "0"), ("METRICS_PORT", "0")]).serve.metrics_port, Some(0));
}

#[test]
fn s3_without_a_bucket_or_with_half_a_pair_is_refused() {
    let told = problems(&[
        ("STORAGE_BACKEND", "s3"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ("S3_PATH_STYLE", "maybe"),
        ("S3_CA_FILE", "/nowhere/ca.pem"),
        ("AWS_ROLE_SESSION_NAME", "a b"),
    ]);
    for expected in [
        "S3_BUCKET is not set;",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE",
        "S3_PATH_STYLE is `maybe`",
        "S3_CA_FILE is `/nowhere/ca.pem`",
        "AWS_ROLE_SESSION_NAME is `a b`",
    ] {
        assert!(told.iter().any(|problem| problem.starts_with(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn s3_variables_reach_the_store() {
    let config = config(&[
        ("STORAGE_BACKEND", "s3"),
        ("STORAGE_PATH", "/var/lib/images"),
        ("STORAGE_FALLBACK", "file"),
        ("IMAGE_DELIVERY", "redirect"),
        ("S3_BUCKET", "images"),
        ("S3_PREFIX", "a/b"),
        ("S3_ENDPOINT_URL", "http://minio:9000"),
        ("S3_PUBLIC_ENDPOINT_URL", "https://s3.example"),
        ("S3_PATH_STYLE", "off"),
        ("S3_CONNECT_TIMEOUT", "1"),
        ("S3_RESPONSE_TIMEOUT", "2"),
        ("S3_IDLE_TIMEOUT", "0.5"),
        ("S3_MAX_RETRIES", "0"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "session"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_PROFILE", "images"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/run/secrets/aws"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/secrets/token"),
    ]);
    let told = config.storage.backend.to_string();
    assert_eq!(
        told,
        "s3, bucket images, below a/b/, at http://minio:9000/; while it is away: /var/lib/images"
    );
    let Backend::S3(s3) = config.storage.backend else { panic!("{told}") };
    assert_eq!(
        (s3.bucket.as_str(), s3.prefix.as_str(), s3.region.as_str()),
        ("images", "a/b/", "eu-central-1")
    );
    assert_eq!((s3.path_style, s3.max_retries, s3.delivery), (Some(false), 0, Delivery::Redirect));
    let timeouts = [s3.timeouts.connect, s3.timeouts.first_byte, s3.timeouts.idle];
    assert_eq!(timeouts, [1000, 2000, 500].map(Duration::from_millis));
    assert_eq!(s3.public_endpoint_url.as_ref().map(url::Url::as_str), Some("https://s3.example/"));
    assert!(!format!("{s3:?}").contains("hunter2"));
    let identity = &s3.identity;
    assert_eq!(identity.keys.as_ref().expect("given").secret_access_key.expose(), "hunter2");
    assert_eq!(identity.profile, "images");
    assert_eq!(identity.web_identity.as_ref().expect("given").session_name, "mcp-image-server");
}

#[test]
fn s3_variables_are_read_whatever_the_backend() {
    let s3 = config(&[("S3_BUCKET", "images")]).s3.expect("a bucket is named");
    assert_eq!((s3.prefix.as_str(), s3.region.as_str(), s3.path_style), ("mcp-images/", "us-east-1", None));
    assert!(s3.identity.keys.is_none() && s3.fallback.is_none() && s3.delivery == Delivery::Proxy);
    let told =
        warnings(&[("S3_BUCKET", "images"), ("IMAGE_DELIVERY", "redirect"), ("STORAGE_FALLBACK", "file")]);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn odd_values_are_warned_about() {
    for (pairs, expected) in [
        (&[("IMAGE_TTL", "10")][..], "IMAGE_CLEANUP_INTERVAL (300 s) is longer than IMAGE_TTL (10 s)"),
        (&[("TRUSTED_PROXIES", "0.0.0.0/0")], "TRUSTED_PROXIES holds every address"),
        (
            &[("GENERATION_TIMEOUT", "10"), ("KSERVE_ENDPOINT", "http://x")],
            "GENERATION_TIMEOUT (10 s) is over before",
        ),
        (
            &[("PREDICTOR", "embedded"), ("KSERVE_ENDPOINT", "http://x")],
            "KSERVE_ENDPOINT is set but not used",
        ),
        (
            &[("STORAGE_BACKEND", "memory"), ("STORAGE_MEMORY_MAX_BYTES", "1048576")],
            "STORAGE_MEMORY_MAX_BYTES (1048576)",
        ),
        (
            &[("STORAGE_BACKED", "memory")],
            "STORAGE_BACKED is not a variable of this server; did you mean STORAGE_BACKEND?",
        ),
    ] {
        let told = warnings(pairs);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
    }
}

#[test]
fn workers_are_capped_at_cores_and_told() {
    let loaded = load(&[("WORKERS", "64")]).expect("valid");
    assert_eq!(loaded.config.workers, 2);
    let row = loaded.effective.iter().find(|row| row.name == "WORKERS").expect("a row");
    assert!(row.value.starts_with("2 (64 asked"), "{row:?}");
}

#[test]
fn tables_are_sound() {
    let names: HashSet<_> = variables().map(|variable| variable.name).collect();
    assert_eq!(names.len(), variables().count());
    for variable in variables() {
        assert!(
            variable.name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
            "{}",
            variable.name
        );
        assert!(variable.help.ends_with('.'), "{}", variable.name);
        // A default that its own variable refuses would be found as a value out of range.
        if let Default::Value(text) = variable.default {
            load(&[(variable.name, text)]).unwrap_or_else(|problems| panic!("{}: {problems}", variable.name));
        }
    }
}

#[test]
fn effective_table_names_every_variable_once() {
    let effective = load(&[]).expect("valid").effective;
    let names: Vec<_> = effective.iter().map(|row| row.name).collect();
    assert_eq!(names, variables().map(|variable| variable.name).collect::<Vec<_>>());
    for variable in variables() {
        let row = effective.iter().find(|row| row.name == variable.name).expect("a row");
        assert_eq!(row.value.is_empty(), matches!(variable.default, Default::Unset), "{row:?}");
    }
}

#[test]
fn odd_texts_never_panic() {
    let texts = [
        "\0",
        "\u{feff}",
        "é",
        "::",
        "[",
        "]",
        "[::]:",
        "http://",
        "http://[",
        "//@",
        "a;b;c",
        ":",
        ";",
        ",",
        "=",
        "$",
        "${",
        "'",
        "\"",
        "\\",
        "1e999",
        "-",
        ".",
        "..",
        "/",
        "*",
        "~",
        "a=b",
        "[x]=",
        "{",
        "\n",
        "\u{202e}x",
        "18446744073709551616",
        "0.0.0.0/0",
        "::/0",
        "http://a/v1/models/",
        "http://a/v1/models/:predict",
        "tcp://1.2.3.4:5",
        "data:x",
        "http:\\\\x",
    ];
    for text in texts {
        for variable in variables() {
            let _ = load(&[(variable.name, text), ("PREDICTOR", "kserve")]);
        }
        let _ = Config::load(Source::environment([(text, text)]).with_env_text(text, text));
    }
}

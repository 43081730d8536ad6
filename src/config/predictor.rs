//! Who draws, and how to reach them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::HeaderValue;

use super::{
    Default, Kind,
    reader::{Reader, Refused},
    syntax,
    variable::{one_line, variables},
};
use crate::{
    generate,
    predictor::{
        Bearer, Config, KserveV1Config,
        kserve_v1::{Endpoint, endpoint},
    },
    secret::Secret,
};

variables! {
    PREDICTOR: Kind::Choice(&["kserve", "embedded", "open-inference", "openai"]),
        Default::Derived("`kserve` if KSERVE_ENDPOINT is set, else `embedded`"),
        "Who draws: a KServe V1 predictor, or the procedural artist inside this server, which is no \
         model. `open-inference` and `openai` are known, but not in this version.";
    KSERVE_ENDPOINT: Kind::Text("an http or https URL without credentials, query and fragment: the \
                                 predictor's base, or one that ends in /v1/models/NAME"),
        Default::Unset,
        "Where the predictor is.";
    KSERVE_MODEL_NAME: Kind::Text("1 to 128 letters, digits, `.`, `_` and `-`"),
        Default::Value("stable-diffusion"),
        "The model, where KSERVE_ENDPOINT does not name it.";
    KSERVE_TIMEOUT: Kind::Seconds { min: 0.1, max: 86_400.0 },
        Default::Value("60"),
        "How long one prediction may take, from dispatch to its whole reply.";
    KSERVE_CONNECT_TIMEOUT: Kind::Seconds { min: 0.1, max: 300.0 },
        Default::Value("5"),
        "How long a connection to the predictor may take to be made.";
    KSERVE_MAX_RETRIES: Kind::Integer { min: 0, max: 20, unit: "tries" },
        Default::Value("3"),
        "Tries after the first one, only where nothing was dispatched or the answer was 429 or 503.";
    KSERVE_TAKES_SEED: Kind::Switch,
        Default::Value("off"),
        "Whether the model is known to take `seed`. Then the server draws one when the caller does not, \
         and records it.";
    KSERVE_OMIT_PARAMETERS: Kind::Text("of negative_prompt, width, height, num_inference_steps, \
                                        guidance_scale and seed, separated by commas"),
        Default::Unset,
        "Parameters never sent, because the model refuses them (Flux: `negative_prompt, seed`).";
    KSERVE_BEARER_TOKEN: Kind::Secret("visible ASCII characters without spaces"),
        Default::Unset,
        "Sent as `Authorization: Bearer`.";
    KSERVE_BEARER_TOKEN_FILE: Kind::Text("the path of a file"),
        Default::Unset,
        "As KSERVE_BEARER_TOKEN, from a file that is read again when it changes.";
    KSERVE_HEADERS: Kind::Headers("`Name: value` headers separated by `;`, or one on each line"),
        Default::Unset,
        "Headers added to each request to the predictor.";
    KSERVE_HOST_HEADER: Kind::Text("a name, or a name and port"),
        Default::Unset,
        "The `Host` to send, where a mesh or an ingress routes by it.";
    KSERVE_CA_FILE: Kind::Text("the path of a PEM file that is there"),
        Default::Unset,
        "Certificate authorities trusted besides the system's.";
}

/// What the KServe variables say, whether a KServe predictor is chosen or not.
struct Kserve {
    timeout: Duration,
    connect_timeout: Duration,
    max_retries: u32,
    takes_seed: bool,
    omit_parameters: Vec<String>,
    bearer: Option<Bearer>,
    headers: Vec<(http::HeaderName, HeaderValue)>,
    host: Option<HeaderValue>,
    ca_file: Option<PathBuf>,
}

/// Reads the predictor, and how long a prediction may take.
pub(super) fn read(reader: &mut Reader, max_image_bytes: u64) -> (Config, Duration) {
    let kserve = kserve(reader);
    let timeout = kserve.timeout;
    let derived = if reader.is_given(&KSERVE_ENDPOINT) { "kserve" } else { "embedded" };
    if !reader.is_given(&PREDICTOR) {
        reader.derived(&PREDICTOR, derived);
    }
    let chosen = reader.choice(&PREDICTOR).unwrap_or(derived);
    let parts = located(reader);
    match chosen {
        "open-inference" | "openai" => {
            let detail = "this version has no such predictor yet; use kserve or embedded";
            reader.refuse(&PREDICTOR, Some(detail.to_owned()));
        }
        "kserve" if !reader.is_given(&KSERVE_ENDPOINT) => reader.missing(
            &KSERVE_ENDPOINT,
            "PREDICTOR=kserve needs the URL of a predictor, such as http://host:port/v1/models/stable-diffusion",
        ),
        "embedded" if reader.is_given(&KSERVE_ENDPOINT) => {
            reader.warn("KSERVE_ENDPOINT is set but not used, because PREDICTOR is embedded");
        }
        "embedded" if !reader.is_given(&PREDICTOR) => warn_of_lost_endpoint(reader),
        _ => {}
    }
    let config = match parts.filter(|_| chosen == "kserve") {
        Some(parts) => Config::KserveV1(Box::new(assemble(parts, kserve, max_image_bytes))),
        None => Config::Embedded,
    };
    (config, timeout)
}

/// Who says how to reach a predictor, but not where it is, may not want the embedded one.
fn warn_of_lost_endpoint(reader: &mut Reader) {
    let telling = [
        &KSERVE_BEARER_TOKEN,
        &KSERVE_BEARER_TOKEN_FILE,
        &KSERVE_HEADERS,
        &KSERVE_HOST_HEADER,
        &KSERVE_CA_FILE,
    ];
    if let Some(given) = telling.into_iter().find(|variable| reader.is_given(variable)) {
        reader.warn(format!(
            "{} is set but not used: without KSERVE_ENDPOINT, the embedded predictor draws",
            given.name
        ));
    }
}

fn assemble(at: Endpoint, kserve: Kserve, max_image_bytes: u64) -> KserveV1Config {
    KserveV1Config {
        predict_url: at.predict_url,
        model_url: at.model_url,
        model_name: at.model_name,
        timeout: kserve.timeout,
        connect_timeout: kserve.connect_timeout,
        max_retries: kserve.max_retries,
        max_image_bytes,
        takes_seed: kserve.takes_seed,
        omit_parameters: kserve.omit_parameters,
        bearer: kserve.bearer,
        headers: kserve.headers,
        host: kserve.host,
        ca_file: kserve.ca_file,
    }
}

/// The endpoint's URLs, if it is given and right.
fn located(reader: &mut Reader) -> Option<Endpoint> {
    let name = reader.take(&KSERVE_MODEL_NAME, model_name);
    let explicit = name.filter(|_| reader.is_given(&KSERVE_MODEL_NAME));
    let located = reader.take(&KSERVE_ENDPOINT, |text| {
        endpoint(text, explicit.as_deref()).map_err(|reason| Some(reason.to_string()))
    })?;
    if !reader.is_given(&KSERVE_MODEL_NAME) {
        reader.derived(&KSERVE_MODEL_NAME, &located.model_name);
    }
    Some(located)
}

fn kserve(reader: &mut Reader) -> Kserve {
    let headers = reader.take(&KSERVE_HEADERS, syntax::headers).unwrap_or_default();
    let bearer = bearer(reader);
    if bearer.is_some() && headers.iter().any(|(name, _)| name == http::header::AUTHORIZATION) {
        let token = if reader.is_given(&KSERVE_BEARER_TOKEN) {
            &KSERVE_BEARER_TOKEN
        } else {
            &KSERVE_BEARER_TOKEN_FILE
        };
        reader.conflict(&[&KSERVE_HEADERS, token], "both give an Authorization header; keep one");
    }
    Kserve {
        timeout: reader.seconds(&KSERVE_TIMEOUT).unwrap_or_default(),
        connect_timeout: reader.seconds(&KSERVE_CONNECT_TIMEOUT).unwrap_or_default(),
        max_retries: reader.integer(&KSERVE_MAX_RETRIES).unwrap_or_default(),
        takes_seed: reader.switch(&KSERVE_TAKES_SEED),
        omit_parameters: reader.list(&KSERVE_OMIT_PARAMETERS, omittable),
        bearer,
        headers,
        host: reader.take(&KSERVE_HOST_HEADER, |text| {
            HeaderValue::from_str(&syntax::authority(text)?).map_err(|_| None)
        }),
        ca_file: reader.take(&KSERVE_CA_FILE, present_file),
    }
}

fn bearer(reader: &mut Reader) -> Option<Bearer> {
    let value = reader.take(&KSERVE_BEARER_TOKEN, syntax::token);
    let file = reader.take(&KSERVE_BEARER_TOKEN_FILE, path);
    if reader.is_given(&KSERVE_BEARER_TOKEN) && reader.is_given(&KSERVE_BEARER_TOKEN_FILE) {
        reader.conflict(&[&KSERVE_BEARER_TOKEN, &KSERVE_BEARER_TOKEN_FILE], "both are set; keep one");
    }
    if let Some(file) = file.as_deref().filter(|file| !is_file(file)) {
        // A platform may mount it later, so this is no reason not to start.
        let file = one_line(&file.to_string_lossy(), 160);
        reader.warn(format!("KSERVE_BEARER_TOKEN_FILE: {file} is not there yet"));
    }
    value.map(|token| Bearer::Value(Secret::new(token))).or(file.map(Bearer::File))
}

fn model_name(text: &str) -> Result<String, Refused> {
    let fits = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && !matches!(text, "." | "..");
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

/// A parameter other than the prompt, which no model can do without.
fn omittable(text: &str) -> Result<String, Refused> {
    let name = text.to_ascii_lowercase();
    let known = generate::PARAMETERS.iter().any(|parameter| !parameter.required && parameter.name == name);
    if known { Ok(name) } else { Err(Some(format!("`{}` is none of them", one_line(text, 80)))) }
}

fn path(text: &str) -> Result<PathBuf, Refused> {
    if text.contains('\0') { Err(None) } else { Ok(PathBuf::from(text)) }
}

fn present_file(text: &str) -> Result<PathBuf, Refused> {
    let path = path(text)?;
    if is_file(&path) { Ok(path) } else { Err(Some("there is no such file".to_owned())) }
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file())
}

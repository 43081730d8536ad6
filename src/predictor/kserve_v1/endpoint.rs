//! From what an operator writes to the URLs that are called.

use url::Url;

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `<base>/v1/models/<name>:predict`.
    pub predict_url: Url,
    /// `<base>/v1/models/<name>`.
    pub model_url: Url,
    /// The model's name.
    pub model_name: String,
}

/// Why an endpoint is none. Holds nothing of the URL that could be a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(String);

/// The name when neither the endpoint nor `KSERVE_MODEL_NAME` gives one.
pub const DEFAULT_MODEL_NAME: &str = "stable-diffusion";

/// Derives the URLs of a V1 model from `KSERVE_ENDPOINT` and `KSERVE_MODEL_NAME` (`None` when it is
/// not set).
///
/// The endpoint may be the base URL (`http://host:port`, with a path prefix or not), or end in
/// `/v1`, `/v1/models`, `/v1/models/<name>` or `/v1/models/<name>:predict`, each with slashes behind.
///
/// # Errors
/// Not an http or https URL; credentials, a query or a fragment in it; another protocol's path; a
/// name with other characters than letters, digits, `.`, `_` and `-`; two different names.
pub fn endpoint(endpoint: &str, model_name: Option<&str>) -> Result<Endpoint, InvalidEndpoint> {
    let url = base_url(endpoint.trim())?;
    let path: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let (prefix, named) = split_path(&path)?;
    let model_name = match (named, model_name.map(str::trim)) {
        (Some(named), Some(other)) if named != other => {
            return Err(invalid(format!(
                "KSERVE_ENDPOINT names the model {named:?}, but KSERVE_MODEL_NAME is {other:?}; give one of them, or the same name in both"
            )));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => DEFAULT_MODEL_NAME,
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if model_name.is_empty() || matches!(model_name, "." | "..") || !model_name.chars().all(is_allowed) {
        return Err(invalid(format!(
            "the model name {model_name:?} is not allowed; expected letters, digits, `.`, `_` and `-`"
        )));
    }
    let base = prefix.iter().fold(String::new(), |base, segment| base + "/" + segment);
    let model_path = format!("{base}/v1/models/{model_name}");
    let with_path = |path: &str| {
        let mut url = url.clone();
        url.set_path(path);
        url
    };
    Ok(Endpoint {
        predict_url: with_path(&format!("{model_path}:predict")),
        model_url: with_path(&model_path),
        model_name: model_name.to_owned(),
    })
}

fn base_url(endpoint: &str) -> Result<Url, InvalidEndpoint> {
    const EXPECTED: &str = "expected http://host:port or https://host, with or without /v1/models/<name>";
    let url = Url::parse(endpoint).map_err(|error| invalid(format!("not a URL ({error}); {EXPECTED}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("the scheme {:?} is not allowed; {EXPECTED}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("credentials in the URL are not allowed; configure a bearer token or a header"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(format!("a query or a fragment is not allowed; {EXPECTED}")));
    }
    Ok(url)
}

/// The path in front of `v1/models/<name>`, and the name.
fn split_path<'a>(path: &'a [&'a str]) -> Result<(&'a [&'a str], Option<&'a str>), InvalidEndpoint> {
    match path {
        [prefix @ .., "v1", "models", name] => {
            let name = name.strip_suffix(":predict").unwrap_or(name);
            Ok((prefix, Some(name)))
        }
        [prefix @ .., "v1", "models"] | [prefix @ .., "v1"] => Ok((prefix, None)),
        [.., "v1", "models", _, rest] => Err(invalid(format!(
            "unexpected {rest:?} behind the model's name; expected /v1/models/<name> or /v1/models/<name>:predict"
        ))),
        path if path.windows(2).any(|pair| pair == ["v2", "models"]) => Err(invalid(
            "this is a URL of the Open Inference Protocol (v2); expected /v1/models/<name> or the base URL",
        )),
        prefix => Ok((prefix, None)),
    }
}

fn invalid(message: impl Into<String>) -> InvalidEndpoint {
    InvalidEndpoint(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_in_each_form_gives_the_same_urls() {
        for (given, name) in [
            ("http://host:8080", None),
            ("http://host:8080/", Some("stable-diffusion")),
            (" http://host:8080/v1/ ", None),
            ("http://host:8080/v1/models", None),
            ("http://host:8080/v1/models/stable-diffusion", None),
            ("http://host:8080/v1/models/stable-diffusion//", Some("stable-diffusion")),
            ("http://HOST:8080/v1/models/stable-diffusion:predict", None),
            ("http://host:8080/v1/models/stable-diffusion:predict/", Some(" stable-diffusion ")),
        ] {
            let found = endpoint(given, name).expect(given);
            assert_eq!(found.predict_url.as_str(), "http://host:8080/v1/models/stable-diffusion:predict");
            assert_eq!(found.model_url.as_str(), "http://host:8080/v1/models/stable-diffusion");
            assert_eq!(found.model_name, "stable-diffusion");
        }
    }

    #[test]
    fn endpoint_with_a_prefix_and_a_name_keeps_both() {
        for (given, name) in [
            ("https://gateway.example/team/a", Some("sd_3.5")),
            ("https://gateway.example/team/a/v1/models/sd_3.5", None),
            ("https://gateway.example//team//a/v1/models/sd_3.5:predict", None),
        ] {
            let found = endpoint(given, name).expect(given);
            assert_eq!(found.predict_url.as_str(), "https://gateway.example/team/a/v1/models/sd_3.5:predict");
            assert_eq!(found.model_name, "sd_3.5");
        }
    }

    #[test]
    fn endpoint_that_cannot_be_called_is_refused_with_the_reason() {
        for (given, name, part) in [
            ("host:8080", None, "scheme"),
            ("", None, "not a URL"),
            ("http://", None, "not a URL"),
            ("ftp://host", None, "\"ftp\""),
            ("http://user:hunter2@host", None, "credentials"),
            ("http://token@host", None, "credentials"),
            ("http://host/?key=hunter2", None, "query"),
            ("http://host/#x", None, "fragment"),
            ("http://host/v2/models/a/infer", None, "v2"),
            ("http://host/v1/models/a/b", None, "\"b\""),
            ("http://host/v1/models/:predict", None, "not allowed"),
            ("http://host/v1/models/a%2fb", None, "not allowed"),
            ("http://host/v1/models/a:explain", None, "not allowed"),
            ("http://host", Some(""), "not allowed"),
            ("http://host", Some("a/b"), "not allowed"),
            ("http://host", Some(".."), "not allowed"),
            ("http://host/v1/models/a", Some("b"), "\"a\", but KSERVE_MODEL_NAME is \"b\""),
        ] {
            let error = endpoint(given, name).expect_err(given).to_string();
            assert!(error.contains(part), "{given}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

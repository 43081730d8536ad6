//! Finds the URLs of a KServe V1 model from what was configured.

use url::Url;

/// A model's URLs.
pub(super) struct Endpoint {
    /// Posted to.
    pub(super) predict_url: Url,
    /// Asked whether the model is ready.
    pub(super) model_url: Url,
    /// The model's name.
    pub(super) model_name: String,
}

/// The model that is asked for where neither the endpoint nor the configuration names one.
const DEFAULT_MODEL_NAME: &str = "stable-diffusion";

/// Takes a base, or a URL that ends in `/v1/models/NAME` or `/v1/models/NAME:predict`.
pub(super) fn endpoint(endpoint: &str, explicit_model_name: Option<&str>) -> Result<Endpoint, String> {
    let url = super::syntax::web_url(endpoint).map_err(Option::unwrap_or_default)?;
    let path = url.path().trim_end_matches('/');
    let (base, named) = match path.split_once("/v1/models") {
        Some((base, rest)) => {
            let name = rest.trim_start_matches('/').trim_end_matches(":predict");
            (base, Some(name).filter(|name| !name.is_empty()))
        }
        None => (path, None),
    };
    if named.is_some_and(|name| name.contains('/')) {
        return Err("its path goes on after the model's name".to_owned());
    }
    if let (Some(named), Some(explicit)) = (named, explicit_model_name)
        && named != explicit
    {
        return Err(format!("it names the model {named}, but KSERVE_MODEL_NAME is {explicit}"));
    }
    let model_name = named.or(explicit_model_name).unwrap_or(DEFAULT_MODEL_NAME).to_owned();
    let at = |suffix: &str| {
        let mut url = url.clone();
        url.set_path(&format!("{base}/v1/models/{model_name}{suffix}"));
        url
    };
    Ok(Endpoint { predict_url: at(":predict"), model_url: at(""), model_name: model_name.clone() })
}

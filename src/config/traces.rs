//! Traces over OTLP, by the variables that OpenTelemetry names for all languages.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    Default, Kind,
    reader::{Reader, Refused},
    syntax,
    variable::{one_line, variables},
};
use crate::telemetry::traces::{Config, Sampler};

variables! {
    OTEL_EXPORTER_OTLP_ENDPOINT: Kind::Text("an http or https URL without credentials, query and fragment"),
        Default::Unset,
        "The collector that traces go to, such as `http://collector:4318`; `/v1/traces` is appended. Without it there \
         are no traces.";
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Kind::Text("an http or https URL without credentials, query and fragment"),
        Default::Unset,
        "As OTEL_EXPORTER_OTLP_ENDPOINT, taken as it is; it goes before the other.";
    OTEL_EXPORTER_OTLP_PROTOCOL: Kind::Choice(&["http/protobuf"]),
        Default::Value("http/protobuf"),
        "How traces are sent.";
    OTEL_EXPORTER_OTLP_HEADERS: Kind::Secret("`name=value` pairs separated by commas, values percent-encoded"),
        Default::Unset,
        "Headers of each export.";
    OTEL_EXPORTER_OTLP_TIMEOUT: Kind::Integer { min: 1, max: 600_000, unit: "milliseconds" },
        Default::Value("10000"),
        "How long one export may take.";
    OTEL_EXPORTER_OTLP_CERTIFICATE: Kind::Text("the path of a PEM file"),
        Default::Unset,
        "Certificate authorities trusted besides the system's.";
    OTEL_SERVICE_NAME: Kind::Text("1 to 255 characters, without control characters"),
        Default::Derived("`service.name` of OTEL_RESOURCE_ATTRIBUTES, else SERVICE_NAME"),
        "The `service.name` of traces.";
    OTEL_RESOURCE_ATTRIBUTES: Kind::Text("`name=value` pairs separated by commas, values percent-encoded"),
        Default::Unset,
        "What traces tell of this process, such as `deployment.environment.name=production`.";
    OTEL_TRACES_SAMPLER: Kind::Choice(&[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ]),
        Default::Value("parentbased_always_on"),
        "Which traces are recorded; `parentbased_…` follows the caller where there is one.";
    OTEL_TRACES_SAMPLER_ARG: Kind::Text("a number from 0 to 1"),
        Default::Derived("1"),
        "The part of traces that `traceidratio` and `parentbased_traceidratio` record.";
    OTEL_SDK_DISABLED: Kind::Switch,
        Default::Value("off"),
        "Turns traces off, whatever the others say.";
}

/// Reads where traces go; `None` where they go nowhere. Every variable is read, so that a bad one is told.
pub(super) fn read(reader: &mut Reader, service_name: &str) -> Option<Config> {
    let base = reader.take(&OTEL_EXPORTER_OTLP_ENDPOINT, |text| {
        let mut url = syntax::web_url(text)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "traces"]);
        }
        Ok(url)
    });
    let url: Option<Url> = reader.take(&OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, syntax::web_url).or(base);
    let disabled = reader.switch(&OTEL_SDK_DISABLED);
    let protocol = reader.choice(&OTEL_EXPORTER_OTLP_PROTOCOL);
    let headers = reader.take(&OTEL_EXPORTER_OTLP_HEADERS, headers).unwrap_or_default();
    let timeout = Duration::from_millis(reader.integer(&OTEL_EXPORTER_OTLP_TIMEOUT).unwrap_or_default());
    let ca_file = reader.take(&OTEL_EXPORTER_OTLP_CERTIFICATE, |text| Ok(PathBuf::from(text)));
    let resource = resource(reader, service_name);
    let sampler = sampler(reader);
    let url = url.filter(|_| !disabled && protocol.is_some())?;
    Some(Config { url, headers, timeout, ca_file, resource, sampler })
}

fn resource(reader: &mut Reader, service_name: &str) -> Vec<(String, String)> {
    let mut resource = reader.take(&OTEL_RESOURCE_ATTRIBUTES, pairs).unwrap_or_default();
    let name = reader.take(&OTEL_SERVICE_NAME, |text| {
        let fits = text.chars().count() <= 255 && !text.chars().any(char::is_control);
        if fits { Ok(text.to_owned()) } else { Err(None) }
    });
    if name.is_some() {
        resource.retain(|(key, _)| key != "service.name");
    }
    let name = name.as_deref().unwrap_or(service_name);
    for (key, value) in [
        ("service.name", name),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ] {
        if resource.iter().all(|(given, _)| given != key) {
            resource.push((key.to_owned(), value.to_owned()));
        }
    }
    if !reader.is_given(&OTEL_SERVICE_NAME)
        && let Some((_, name)) = resource.iter().find(|(key, _)| key == "service.name")
    {
        reader.derived(&OTEL_SERVICE_NAME, name);
    }
    resource
}

fn sampler(reader: &mut Reader) -> Sampler {
    let ratio = reader.take(&OTEL_TRACES_SAMPLER_ARG, |text| {
        let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or(None)
    });
    let name = reader.choice(&OTEL_TRACES_SAMPLER).unwrap_or_default();
    if reader.is_given(&OTEL_TRACES_SAMPLER_ARG) && !name.ends_with("traceidratio") {
        reader.warn(format!("OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER {name}"));
    }
    let ratio = ratio.unwrap_or(1.0);
    if !reader.is_given(&OTEL_TRACES_SAMPLER_ARG) {
        reader.derived(&OTEL_TRACES_SAMPLER_ARG, ratio);
    }
    match name {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatio(ratio),
        "parentbased_always_off" => Sampler::ParentBased(0.0),
        "parentbased_traceidratio" => Sampler::ParentBased(ratio),
        _ => Sampler::ParentBased(1.0),
    }
}

fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    // Values are not repeated: they may be secrets.
    let header = |(name, value): (String, String)| {
        let refused = |what: &str| Some(format!("`{}`: {what}", one_line(&name, 64)));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused("not a header name"))?;
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| refused("its value has control characters"))?;
        value.set_sensitive(true);
        Ok((parsed, value))
    };
    pairs(text)?.into_iter().map(header).collect()
}

/// `name=value` pairs as W3C Baggage writes them, which the specification refers to.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Refused> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let pair = |item: &str| {
        let (name, value) = item.split_once('=').ok_or(Some("a pair without `=`".to_owned()))?;
        let value = percent_decode_str(value.trim()).decode_utf8();
        let value = value.map_err(|_| Some(format!("`{}`: its value is not UTF-8", one_line(name, 64))))?;
        Ok((name.trim().to_owned(), value.into_owned()))
    };
    items.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Config as Whole, Problems, Source};
    use super::*;

    fn load(variables: &[(&'static str, &'static str)]) -> Result<Option<Config>, Problems> {
        Whole::load(Source::environment(variables.iter().copied())).map(|loaded| loaded.config.traces)
    }

    #[test]
    fn traces_are_off_without_an_endpoint_or_when_disabled() {
        assert!(load(&[("OTEL_SERVICE_NAME", "x")]).expect("valid").is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(load(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).expect("valid").is_none());
    }

    #[test]
    fn endpoint_gets_the_path_of_traces_unless_it_is_theirs() {
        let url = |variables: &[_]| load(variables).expect("valid").expect("on").url.to_string();
        let base = |url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        assert_eq!(url(&[base("http://c:4318")]), "http://c:4318/v1/traces");
        assert_eq!(url(&[base("https://c/otlp/")]), "https://c/otlp/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/in");
        assert_eq!(url(&[base("http://c:4318"), own]), "http://d/in");
    }

    #[test]
    fn names_come_from_the_nearest_variable() {
        let named = |variables: &[(&'static str, &'static str)]| {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
            let all: Vec<_> = [endpoint].into_iter().chain(variables.iter().copied()).collect();
            let resource = load(&all).expect("valid").expect("on").resource;
            let named: Vec<_> = resource.into_iter().filter(|(name, _)| name == "service.name").collect();
            assert_eq!(named.len(), 1, "{named:?}");
            named[0].1.clone()
        };
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b,team=x");
        assert_eq!(named(&[]), "mcp-image-server");
        assert_eq!(named(&[("SERVICE_NAME", "images")]), "images");
        assert_eq!(named(&[("SERVICE_NAME", "images"), attributes]), "a b");
        assert_eq!(named(&[attributes, ("OTEL_SERVICE_NAME", "own")]), "own");
    }

    #[test]
    fn headers_are_decoded_and_sensitive() {
        let headers = headers("authorization=Bearer%20abc, X-Tenant = 7").expect("valid");
        let shown: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(shown, [("authorization", &b"Bearer abc"[..]), ("x-tenant", &b"7"[..])]);
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
    }

    #[test]
    fn wrong_values_are_told_by_name_and_secrets_are_not() {
        let problems = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ]);
        let text = problems.expect_err("wrong").to_string();
        for name in ["ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT"] {
            assert!(text.contains(&format!("OTEL_EXPORTER_OTLP_{name} is")), "{name} in {text}");
        }
        assert!(
            text.contains("OTEL_TRACES_SAMPLER is") && text.contains("OTEL_TRACES_SAMPLER_ARG is"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn sampler_is_what_its_name_and_ratio_say() {
        let sampler = |name, ratio| {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
            let names = [endpoint, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
            load(&names).expect("valid").expect("on").sampler
        };
        assert_eq!(sampler("", ""), Sampler::ParentBased(1.0));
        assert_eq!(sampler("always_on", ""), Sampler::AlwaysOn);
        assert_eq!(sampler("always_off", ""), Sampler::AlwaysOff);
        assert_eq!(sampler("traceidratio", "0.25"), Sampler::TraceIdRatio(0.25));
        assert_eq!(sampler("parentbased_always_off", ""), Sampler::ParentBased(0.0));
        assert_eq!(sampler("parentbased_traceidratio", "0.5"), Sampler::ParentBased(0.5));
    }
}

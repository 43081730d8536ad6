//! Who may ask, how much, and for how long.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::{
    Default, Kind, Variable,
    reader::{Reader, Refused},
    syntax,
    variable::{one_line, variables},
};
use crate::stack::{Config, Listing, Rate};

/// What a generation may take besides waiting and drawing: inspection and storing.
const GENERATION_MARGIN: Duration = Duration::from_secs(30);

variables! {
    ALLOWED_HOSTS: Kind::Text("names, or names with a port, separated by commas (`images.example, \
                               10.0.0.7:8000`)"),
        Default::Unset,
        "`Host` values allowed on `/mcp`, REST and images, besides loopback names and the host of \
         PUBLIC_BASE_URL.";
    ALLOWED_ORIGINS: Kind::Text("origins, separated by commas (`https://app.example`)"),
        Default::Unset,
        "`Origin` values of web pages allowed to ask, besides loopback ones and that of PUBLIC_BASE_URL.";
    TRUSTED_PROXIES: Kind::Text("addresses or networks, separated by commas (`10.0.0.0/8, fd00::/8`)"),
        Default::Unset,
        "Proxies whose `X-Forwarded-For` tells the client's address.";
    IMAGE_LISTING: Kind::Choice(&["auto", "on", "off"]),
        Default::Value("auto"),
        "Who may list and delete images: `auto` means clients on this machine alone.";
    GALLERY: Kind::Choice(&["on", "off"]),
        Default::Value("on"),
        "Whether there is a web page at `/` that shows the latest images and a form to make more.";
    REQUEST_RATE: Kind::Integer { min: 0, max: 1_000_000, unit: "requests per second" },
        Default::Value("50"),
        "Requests to `/mcp` and REST that each client may make in the long run; 0 means unlimited.";
    REQUEST_BURST: Kind::Integer { min: 1, max: 1_000_000, unit: "requests" },
        Default::Value("200"),
        "Requests to `/mcp` and REST that a client may make at once.";
    IMAGE_RATE: Kind::Integer { min: 0, max: 1_000_000, unit: "requests per second" },
        Default::Value("500"),
        "Requests for images that each client may make in the long run; 0 means unlimited.";
    IMAGE_BURST: Kind::Integer { min: 1, max: 1_000_000, unit: "requests" },
        Default::Value("2000"),
        "Requests for images that a client may make at once.";
    MAX_REQUEST_BYTES: Kind::Integer { min: 1024, max: 67_108_864, unit: "bytes" },
        Default::Value("1048576"),
        "Largest request body.";
    REQUEST_TIMEOUT: Kind::Seconds { min: 0.1, max: 3600.0 },
        Default::Value("30"),
        "From request to response head, for all but generations.";
    GENERATION_TIMEOUT: Kind::Seconds { min: 0.1, max: 259_200.0 },
        Default::Derived("GENERATION_QUEUE_TIMEOUT + KSERVE_TIMEOUT + 30"),
        "How long a generation may take, whoever asks and however: waiting, drawing and storing.";
}

pub(super) fn read(
    reader: &mut Reader,
    public_base_url: &str,
    queue_timeout: Duration,
    prediction_timeout: Duration,
) -> Config {
    let mut config = Config {
        allowed_hosts: reader.list(&ALLOWED_HOSTS, syntax::authority),
        allowed_origins: reader.list(&ALLOWED_ORIGINS, syntax::origin),
        trusted_proxies: reader.list(&TRUSTED_PROXIES, network),
        listing: match reader.choice(&IMAGE_LISTING) {
            Some("on") => Listing::On,
            Some("off") => Listing::Off,
            _ => Listing::Auto,
        },
        gallery: reader.choice(&GALLERY) != Some("off"),
        request_rate: rate(reader, &REQUEST_RATE, &REQUEST_BURST),
        image_rate: rate(reader, &IMAGE_RATE, &IMAGE_BURST),
        max_request_bytes: reader.integer(&MAX_REQUEST_BYTES).unwrap_or_default(),
        request_timeout: reader.seconds(&REQUEST_TIMEOUT).unwrap_or_default(),
        generation_timeout: generation_timeout(reader, queue_timeout, prediction_timeout),
    };
    if config.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        reader.warn(
            "TRUSTED_PROXIES holds every address: any client can then choose the address it is limited by",
        );
    }
    allow(&mut config, public_base_url);
    config
}

/// Who comes by a public URL may ask.
pub(super) fn allow(config: &mut Config, public_base_url: &str) {
    let Ok(url) = Url::parse(public_base_url) else { return };
    let origin = url.origin().ascii_serialization();
    if let Some(host) = url.host_str().map(str::to_owned)
        && !config.allowed_hosts.contains(&host)
    {
        config.allowed_hosts.push(host);
    }
    if !config.allowed_origins.contains(&origin) {
        config.allowed_origins.push(origin);
    }
}

fn generation_timeout(reader: &mut Reader, queue: Duration, prediction: Duration) -> Duration {
    let needed = queue.saturating_add(prediction).saturating_add(GENERATION_MARGIN);
    match reader.seconds(&GENERATION_TIMEOUT) {
        Some(given) => {
            if given < prediction {
                reader.warn(format!(
                    "GENERATION_TIMEOUT ({} s) is over before KSERVE_TIMEOUT ({} s)",
                    given.as_secs_f64(),
                    prediction.as_secs_f64()
                ));
            }
            given
        }
        None => {
            if !reader.is_given(&GENERATION_TIMEOUT) {
                reader.derived(&GENERATION_TIMEOUT, needed.as_secs_f64());
            }
            needed
        }
    }
}

/// Both are read even if the rate is 0, so that a bad burst is told.
fn rate(reader: &mut Reader, per_second: &Variable, burst: &Variable) -> Option<Rate> {
    let per_second = reader.integer(per_second).and_then(NonZeroU32::new);
    let burst = reader.integer(burst).and_then(NonZeroU32::new);
    Some(Rate { per_second: per_second?, burst: burst? })
}

fn network(text: &str) -> Result<IpNet, Refused> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| Some(format!("`{}` is neither", one_line(text, 80))))?;
    Ok(network.trunc())
}

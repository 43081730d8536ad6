//! Every metric this server exports, described, and the recorder that keeps them.
//!
//! The metrics of HTTP requests (`http_server_*`) are described in the `layers` crate, beside the layer
//! that records them.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, header};
use layers::Body;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::problem::Problem;

/// This server's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build could tell (see `build.rs`).
pub const COMMIT: Option<&str> = option_env!("BUILD_COMMIT");

/// The `Content-Type` of [`Exporter::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the recorder tells the type of the processor's time.
const CPU_AS_GAUGE: &str = "# TYPE process_cpu_seconds_total gauge";

/// How often samples of histograms are folded into their buckets between scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric, described.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name, the unit in it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts, where that is a unit.
    pub unit: Option<Unit>,
    /// What it tells.
    pub help: &'static str,
}

const fn counter(name: &'static str, unit: Option<Unit>, help: &'static str) -> Described {
    Described { name, kind: Kind::Counter, unit, help }
}

const fn level(name: &'static str, unit: Option<Unit>, help: &'static str) -> Described {
    Described { name, kind: Kind::Gauge, unit, help }
}

const fn duration(name: &'static str, help: &'static str) -> Described {
    Described { name, kind: Kind::Histogram, unit: Some(Unit::Seconds), help }
}

/// Every metric of this server.
pub const METRICS: &[Described] = &[
    level("mcp_image_build_info", None, "Always 1; the version and the commit are in the labels"),
    level(
        "mcp_image_memory_budget_bytes",
        Some(Unit::Bytes),
        "What each part of the server may hold at most, by its configuration",
    ),
    counter("mcp_image_rpc_messages_total", None, "JSON-RPC messages let in, by method"),
    counter("mcp_image_rpc_refused_total", None, "Requests refused before the protocol, by reason"),
    counter("mcp_image_tool_calls_total", None, "Tool calls, by tool and outcome"),
    counter("mcp_image_generations_total", None, "Generations that ended, by outcome and model"),
    duration("mcp_image_generation_duration_seconds", "Generations from request to stored image, by outcome"),
    level(
        "mcp_image_generations_in_flight",
        None,
        "Generations begun and not ended: waiting, drawing or being stored",
    ),
    level("mcp_image_generation_queue_depth", None, "Generations that wait for their turn now"),
    duration(
        "mcp_image_generation_queue_wait_seconds",
        "How long generations waited for their turn, or in vain; not those refused at once",
    ),
    counter("mcp_image_generated_bytes_total", Some(Unit::Bytes), "Bytes of the images that were generated"),
    counter(
        "mcp_image_predictor_requests_total",
        None,
        "Requests to the predictor, by protocol and outcome; each try counts",
    ),
    duration(
        "mcp_image_predictor_request_duration_seconds",
        "Requests to the predictor from dispatch to the whole reply, by protocol",
    ),
    counter("mcp_image_predictor_retries_total", None, "Requests to the predictor tried again, by reason"),
    counter(
        "mcp_image_storage_operations_total",
        None,
        "Operations on the store, by backend, operation and outcome",
    ),
    duration(
        "mcp_image_storage_operation_duration_seconds",
        "Operations on the store, by backend and operation",
    ),
    counter("mcp_image_storage_written_bytes_total", Some(Unit::Bytes), "Bytes of images saved, by backend"),
    counter("mcp_image_storage_read_bytes_total", Some(Unit::Bytes), "Bytes of images read, by backend"),
    counter("mcp_image_s3_requests_total", None, "Requests to S3, by operation and outcome; each try counts"),
    duration(
        "mcp_image_s3_request_duration_seconds",
        "Requests to S3, by operation; of an image's download, to its head",
    ),
    counter("mcp_image_s3_retries_total", None, "Requests to S3 tried again, by operation"),
    counter(
        "mcp_image_s3_resumed_reads_total",
        None,
        "Downloads from S3 that broke off and were taken up again",
    ),
    level("mcp_image_s3_breaker_open", None, "1 while S3 is left alone after failures in a row, else 0"),
    counter(
        "mcp_image_fallback_saves_total",
        None,
        "Images saved in the fallback folder because S3 was away",
    ),
    counter(
        "mcp_image_fallback_moved_total",
        None,
        "Images moved from the fallback folder to S3, by outcome",
    ),
    level(
        "mcp_image_fallback_images",
        None,
        "Images in the fallback folder that wait to be moved; counted up to 100",
    ),
    counter("mcp_image_cleaner_runs_total", None, "Cleaning cycles, by outcome"),
    counter("mcp_image_cleaner_removed_images_total", None, "Expired images removed"),
    counter("mcp_image_cleaner_removed_bytes_total", Some(Unit::Bytes), "Bytes of expired images removed"),
    counter("mcp_image_cleaner_failed_images_total", None, "Images that were due but could not be removed"),
    counter("mcp_image_cleaner_swept_total", None, "Leftovers of interrupted operations swept"),
    counter("mcp_image_cleaner_removed_records_total", None, "Expired records removed"),
    counter(
        "mcp_image_cleaner_evicted_images_total",
        None,
        "Images removed before their time because a quota was exceeded, by quota",
    ),
    counter(
        "mcp_image_cleaner_evicted_bytes_total",
        Some(Unit::Bytes),
        "Bytes of images removed before their time because a quota was exceeded, by quota",
    ),
    duration("mcp_image_cleaner_duration_seconds", "Cleaning cycles"),
    duration("mcp_image_cleaner_count_duration_seconds", "Counts of what is stored"),
    level("mcp_image_stored_images", None, "Images stored, as counted last and known since"),
    level(
        "mcp_image_stored_bytes",
        Some(Unit::Bytes),
        "Bytes of images stored, as counted last and known since",
    ),
    level(
        "mcp_image_cleaner_last_success_timestamp_seconds",
        Some(Unit::Seconds),
        "When a cleaning cycle last went well, as seconds since 1970",
    ),
    counter(
        "mcp_image_cache_lookups_total",
        None,
        "Images and variants looked for in memory, by kind and outcome",
    ),
    level(
        "mcp_image_cache_bytes",
        Some(Unit::Bytes),
        "Bytes of images and variants in memory, kept or still being sent",
    ),
    counter("mcp_image_variants_total", None, "Variants made, or not, by format and outcome"),
    duration("mcp_image_variant_duration_seconds", "Work on one variant: decoding, scaling, encoding"),
    counter(
        "mcp_image_purged_images_total",
        None,
        "Images that the purge webhook is to be told of, by outcome",
    ),
    level("mcp_image_purge_queue_depth", None, "Images that the purge webhook is still to be told of"),
    counter(
        "mcp_image_trace_spans_total",
        None,
        "Spans recorded for the collector of traces, by outcome; dropped are those that found the queue full",
    ),
    level("mcp_image_connections_open", None, "Connections open now"),
    counter("mcp_image_connections_total", None, "Connections that were taken, by how they ended"),
];

/// From a cached answer to a slow disk.
const SHORT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// From the embedded predictor to a cold start on a cluster.
const LONG_BUCKETS: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0,
    600.0,
];

/// Metrics with [`LONG_BUCKETS`], by how their names begin.
const LONG: [&str; 4] = [
    "mcp_image_generation_",
    "mcp_image_predictor_",
    "mcp_image_cleaner_",
    "http_server_request_duration_seconds",
];

/// Gives the metrics to a scrape.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: metrics_process::Collector,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

static INSTALLED: Mutex<Option<Exporter>> = Mutex::new(None);

/// Makes this process record metrics, all of them described. A second call gives the same exporter.
///
/// # Errors
/// Another recorder was there first.
pub fn install() -> Result<Exporter, BuildError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(exporter) = installed.as_ref() {
        return Ok(exporter.clone());
    }
    let handle = builder()?.install_recorder()?;
    let exporter = Exporter { handle, process: metrics_process::Collector::default() };
    describe_all();
    layers::http_metrics::describe();
    exporter.process.describe();
    gauge!("mcp_image_build_info", "version" => VERSION, "commit" => COMMIT.unwrap_or("unknown")).set(1.0);
    *installed = Some(exporter.clone());
    Ok(exporter)
}

/// Tells the recorder what each metric means.
pub fn describe_all() {
    for Described { name, kind, unit, help } in METRICS {
        match (kind, *unit) {
            (Kind::Counter, Some(unit)) => describe_counter!(*name, unit, *help),
            (Kind::Counter, None) => describe_counter!(*name, *help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(*name, unit, *help),
            (Kind::Gauge, None) => describe_gauge!(*name, *help),
            (Kind::Histogram, Some(unit)) => describe_histogram!(*name, unit, *help),
            (Kind::Histogram, None) => describe_histogram!(*name, *help),
        }
    }
}

impl Exporter {
    /// All metrics in Prometheus's text format ([`CONTENT_TYPE`]); those of the process are read now.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        let mut text = self.handle.render();
        // It is recorded as a gauge, because counters of the recorder have no fractions.
        if let Some(at) = text.find(CPU_AS_GAUGE) {
            let kind = at + CPU_AS_GAUGE.len() - "gauge".len();
            text.replace_range(kind..kind + "gauge".len(), "counter");
        }
        text
    }

    /// Keeps the recorder's memory in bounds while nobody scrapes. Runs until it is dropped.
    pub async fn upkeep(self) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.handle.run_upkeep();
        }
    }
}

impl<B> tower::Service<Request<B>> for Exporter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Answers a scrape.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ready(Ok(Problem::method_not_allowed("GET, HEAD").into_response()));
        }
        let mut response = Response::new(Body::full(self.render()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(Ok(response))
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SHORT_BUCKETS)?;
    for name in LONG {
        builder = builder.set_buckets_for_metric(Matcher::Prefix(name.to_owned()), LONG_BUCKETS)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use metrics::{counter, histogram};

    use super::*;

    /// What a recorder of the test's own renders after `body`.
    fn rendered(body: impl FnOnce()) -> String {
        let recorder = builder().expect("buckets").build_recorder();
        let exporter = Exporter { handle: recorder.handle(), process: metrics_process::Collector::default() };
        metrics::with_local_recorder(&recorder, || {
            describe_all();
            exporter.process.describe();
            body();
            exporter.render()
        })
    }

    #[test]
    fn metrics_are_named_by_the_rules() {
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Described { name, kind, unit, help } in METRICS {
            assert!(name.starts_with("mcp_image_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let stem = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(stem.ends_with("_seconds"), *unit == Some(Unit::Seconds), "{name}");
            assert_eq!(stem.ends_with("_bytes"), *unit == Some(Unit::Bytes), "{name}");
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('\n'), "{name}");
        }
    }

    #[test]
    fn render_describes_each_metric_with_its_type() {
        let text = rendered(|| {
            for metric in METRICS {
                match metric.kind {
                    Kind::Counter => counter!(metric.name).increment(1),
                    Kind::Gauge => gauge!(metric.name).set(1.0),
                    Kind::Histogram => histogram!(metric.name).record(1.0),
                }
            }
        });
        for Described { name, kind, help, .. } in METRICS {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name} in {text}");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in {text}");
        }
    }

    #[test]
    fn render_gives_long_operations_long_buckets() {
        let text = rendered(|| {
            histogram!("mcp_image_generation_duration_seconds", "outcome" => "ok").record(200.0);
            histogram!("mcp_image_storage_operation_duration_seconds").record(0.002);
        });
        for line in [
            "mcp_image_generation_duration_seconds_bucket{outcome=\"ok\",le=\"180\"} 0",
            "mcp_image_generation_duration_seconds_bucket{outcome=\"ok\",le=\"600\"} 1",
            "mcp_image_storage_operation_duration_seconds_bucket{le=\"0.0025\"} 1",
            "mcp_image_storage_operation_duration_seconds_sum 0.002",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn render_tells_of_the_process() {
        let text = rendered(|| {});
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in {text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn render_counts_fractions_of_a_second_of_the_processor() {
        let cpu_seconds = || {
            let text = rendered(|| {});
            assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
            let line = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
            line.expect("a sample").parse::<f64>().expect("a number")
        };
        let is_between_seconds = || cpu_seconds().fract() > 0.0;
        // Each look takes some of it: at the latest after a second of work there is a fraction.
        assert!((0..1_000_000).any(|_| is_between_seconds()));
    }

    #[test]
    fn install_twice_gives_the_same_recorder() {
        let first = install().expect("installed");
        let second = install().expect("installed");
        counter!("mcp_image_test_total").increment(1);
        for exporter in [first, second] {
            let text = exporter.render();
            assert!(text.contains("mcp_image_test_total 1\n"), "{text}");
            assert!(text.contains(&format!("version=\"{VERSION}\"")), "{text}");
        }
    }
}

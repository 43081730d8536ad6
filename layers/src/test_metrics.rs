//! A metrics recorder for tests: what was recorded, by `name{label=value,...}` with labels in the order of the call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[derive(Default)]
pub(crate) struct Recorded {
    numbers: Mutex<HashMap<String, Arc<AtomicU64>>>,
    samples: Mutex<HashMap<String, Arc<Samples>>>,
    described: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl Recorded {
    pub(crate) fn counter(&self, key: &str) -> u64 {
        self.numbers.lock().unwrap().get(key).map_or(0, |n| n.load(std::sync::atomic::Ordering::SeqCst))
    }

    pub(crate) fn gauge(&self, key: &str) -> f64 {
        f64::from_bits(self.counter(key))
    }

    pub(crate) fn samples(&self, key: &str) -> Vec<f64> {
        self.samples.lock().unwrap().get(key).map(|s| s.0.lock().unwrap().clone()).unwrap_or_default()
    }

    /// Names of all metrics that were recorded.
    pub(crate) fn names(&self) -> Vec<String> {
        let numbers = self.numbers.lock().unwrap();
        let samples = self.samples.lock().unwrap();
        numbers.keys().chain(samples.keys()).map(|key| key.split('{').next().unwrap().to_owned()).collect()
    }

    /// Names of all metrics that were described.
    pub(crate) fn described(&self) -> Vec<String> {
        self.described.lock().unwrap().clone()
    }

    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        Arc::clone(self.numbers.lock().unwrap().entry(text(key)).or_default())
    }

    fn describe(&self, key: &KeyName, description: &SharedString) {
        assert!(!description.is_empty());
        self.described.lock().unwrap().push(key.as_str().to_owned());
    }
}

fn text(key: &Key) -> String {
    let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.number(key).into()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.number(key).into()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Arc::clone(self.samples.lock().unwrap().entry(text(key)).or_default()).into()
    }
}

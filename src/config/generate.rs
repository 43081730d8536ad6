//! The pipeline, what images may be, and how long they live.

use std::time::Duration;

use super::{Default, Kind, reader::Reader, variable::variables};
use crate::{cleaner, generate, image, predictor};

variables! {
    GENERATION_CONCURRENCY: Kind::Integer { min: 1, max: 1024, unit: "generations" },
        Default::Derived("1 with a KServe predictor, the number of cores with the embedded one"),
        "Predictions in flight at once. Set it to the number of the predictor's replicas: each draws one \
         image at a time.";
    GENERATION_QUEUE_SIZE: Kind::Integer { min: 0, max: 100_000, unit: "generations" },
        Default::Value("256"),
        "Generations that may wait for their turn; more are turned away.";
    GENERATION_QUEUE_TIMEOUT: Kind::Seconds { min: 0.1, max: 86_400.0 },
        Default::Value("120"),
        "How long a generation may wait for its turn.";
    IMAGE_TTL: Kind::Seconds { min: 1.0, max: 315_360_000.0 },
        Default::Value("3600"),
        "How long an image lives. Then its URL answers 404 at once.";
    IMAGE_CLEANUP_INTERVAL: Kind::Seconds { min: 1.0, max: 86_400.0 },
        Default::Value("300"),
        "How often expired images are removed from the store.";
    MAX_IMAGE_SIZE: Kind::Integer { min: 1024, max: 1_073_741_824, unit: "bytes" },
        Default::Value("10485760"),
        "Largest image taken from the predictor.";
    MAX_IMAGE_PIXELS: Kind::Integer { min: 4096, max: 1_073_741_824, unit: "pixels" },
        Default::Value("16777216"),
        "Width times height of an image taken from the predictor, at most.";
}

pub(super) fn limits(reader: &mut Reader) -> image::Limits {
    image::Limits {
        max_bytes: reader.integer(&MAX_IMAGE_SIZE).unwrap_or_default(),
        max_pixels: reader.integer(&MAX_IMAGE_PIXELS).unwrap_or_default(),
    }
}

pub(super) fn read(
    reader: &mut Reader,
    limits: image::Limits,
    predictor: &predictor::Config,
) -> generate::Config {
    let concurrency = reader.integer(&GENERATION_CONCURRENCY);
    let derived = match predictor {
        predictor::Config::Embedded => reader.machine.cores.max(1),
        predictor::Config::KserveV1(_) => 1,
    };
    if !reader.is_given(&GENERATION_CONCURRENCY) {
        reader.derived(&GENERATION_CONCURRENCY, derived);
    }
    generate::Config {
        concurrency: concurrency.unwrap_or(derived),
        queue_size: reader.integer(&GENERATION_QUEUE_SIZE).unwrap_or_default(),
        queue_timeout: reader.seconds(&GENERATION_QUEUE_TIMEOUT).unwrap_or_default(),
        // Known when it is known who may ask.
        timeout: Duration::ZERO,
        image_ttl: reader.seconds(&IMAGE_TTL).unwrap_or_default(),
        limits,
        // Known when delivery is read.
        urls: image::ImageUrls::new(""),
    }
}

pub(super) fn cleaner(reader: &mut Reader, image_ttl: Duration, quota: cleaner::Quota) -> cleaner::Config {
    let interval = reader.seconds(&IMAGE_CLEANUP_INTERVAL).unwrap_or_default();
    if interval > image_ttl {
        reader.warn(format!(
            "IMAGE_CLEANUP_INTERVAL ({} s) is longer than IMAGE_TTL ({} s): expired images take up space \
             long after they are gone for clients",
            interval.as_secs_f64(),
            image_ttl.as_secs_f64()
        ));
    }
    cleaner::Config { interval, quota }
}

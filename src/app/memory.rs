//! How much memory the server may take, by its configuration. The formula is explained in `docs/memory.md`.

use std::{num::NonZero, thread};

use crate::{config::Config, image, images::LISTINGS_MEMORY, predictor, storage::Backend};

/// Code, threads, runtime, metrics, and a few hundred connections.
const PROCESS: u64 = 32 << 20;

/// Images on their way to clients share what the cache has, and this at least.
const LEAST_CACHE: u64 = 16 << 20;

/// Bytes that each part may hold at most.
pub(super) fn budget(config: &Config) -> [(&'static str, u64); 7] {
    let cores = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let limits = config.generate.limits;
    // Previews are made one a core, variants of images and one placeholder beside them.
    let previews = (cores + 1).saturating_mul(image::decoding_memory(limits.max_pixels));
    let variants =
        (config.images.variant_concurrency as u64).saturating_mul(image::variant_memory(limits.max_pixels));
    let stored = match &config.storage.backend {
        Backend::Memory { max_bytes } => *max_bytes,
        _ => 0,
    };
    [
        ("process", PROCESS),
        ("generations", predictor::Memory::budget(limits.max_bytes)),
        ("decoding", previews.saturating_add(variants)),
        // Bytes, and what is known of them.
        ("cache", config.images.cache_bytes.max(LEAST_CACHE) / 16 * 17),
        ("delivery", config.storage.backend.delivery_memory(config.serve.max_connections as u64)),
        ("listings", LISTINGS_MEMORY as u64),
        ("store", stored),
    ]
}

/// Tells the metrics, so that an operator can compare it with the limit of the container.
pub(super) fn tell(config: &Config) {
    for (part, bytes) in budget(config) {
        // Beyond 2^53 bytes precision does not matter.
        metrics::gauge!("mcp_image_memory_budget_bytes", "part" => part).set(bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn parts(variables: &[(&'static str, &'static str)]) -> [(&'static str, u64); 7] {
        budget(&Config::load(Source::environment(variables.iter().copied())).expect("valid").config)
    }

    fn part(variables: &[(&'static str, &'static str)], name: &str) -> u64 {
        parts(variables).into_iter().find(|(part, _)| *part == name).expect("a part").1
    }

    #[test]
    fn budget_of_generations_is_a_constant_or_the_largest_image() {
        assert_eq!(part(&[], "generations"), 16 << 20);
        assert_eq!(part(&[("GENERATION_CONCURRENCY", "256")], "generations"), 16 << 20);
        assert_eq!(part(&[("MAX_IMAGE_SIZE", "104857600")], "generations"), 100 << 20);
    }

    #[test]
    fn budget_of_delivery_grows_with_connections() {
        assert_eq!(part(&[("MAX_CONNECTIONS", "512")], "delivery"), 16 << 20);
        assert_eq!(part(&[("MAX_CONNECTIONS", "1024")], "delivery"), 24 << 20);
    }

    #[test]
    fn budget_of_the_store_is_that_of_the_memory_backend() {
        assert_eq!(part(&[], "store"), 0);
        let memory = [("STORAGE_BACKEND", "memory"), ("STORAGE_MEMORY_MAX_BYTES", "2000000")];
        assert_eq!(part(&memory, "store"), 2_000_000);
    }
}

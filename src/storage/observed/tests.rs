use std::time::Duration;

use futures_util::TryStreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::{
    image::{Format, Generation},
    storage::MemoryStore,
};

/// Runs a future and returns what it left in the metrics.
fn metrics_of(work: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(work));
    recorder.handle().render()
}

fn operation(operation: &str, outcome: &str, count: u32) -> String {
    format!(
        "mcp_image_storage_operations_total{{backend=\"memory\",operation=\"{operation}\",outcome=\"{outcome}\"}} {count}\n"
    )
}

fn image(length: usize) -> NewImage {
    let now = SystemTime::now();
    let metadata = Metadata {
        image_id: ImageId::now(),
        format: Format::Png,
        width: 1,
        height: 1,
        size_bytes: length as u64,
        blake3: String::new(),
        created_at: now.into(),
        expires_at: (now + Duration::from_secs(60)).into(),
        thumbhash: None,
        generation: Generation {
            prompt: "a lighthouse".to_owned(),
            negative_prompt: None,
            num_inference_steps: 1,
            guidance_scale: 7.5,
            seed: None,
            model: "test".to_owned(),
            predictor: "embedded".to_owned(),
            generation_seconds: 0.5,
        },
    };
    NewImage { bytes: vec![0; length].into(), metadata }
}

#[test]
fn operations_are_counted_by_outcome() {
    let metrics = metrics_of(async {
        let store = Observed::new(MemoryStore::new(1000));
        let image = image(600);
        let id = image.metadata.image_id;
        store.save(image.clone()).await.unwrap();
        store.save(image.clone()).await.unwrap_err();
        store.save(self::image(600)).await.unwrap_err();
        store.metadata(id).await.unwrap();
        store.list(ListQuery { prefix: None, cursor: None, limit: 1 }).await.unwrap();
        store.expire(SystemTime::now()).await.unwrap();
        store.check().await.unwrap();
        store.delete(id).await.unwrap();
        store.open(id).await.unwrap_err();
    });
    for expected in [
        operation("save", "ok", 1),
        operation("save", "already_exists", 1),
        operation("save", "full", 1),
        operation("metadata", "ok", 1),
        operation("list", "ok", 1),
        operation("expire", "ok", 1),
        operation("check", "ok", 1),
        operation("delete", "ok", 1),
        operation("open", "not_found", 1),
        "mcp_image_storage_written_bytes_total{backend=\"memory\"} 600\n".to_owned(),
    ] {
        assert!(metrics.contains(&expected), "{expected} is not in\n{metrics}");
    }
    let timed =
        "mcp_image_storage_operation_duration_seconds_count{backend=\"memory\",operation=\"save\"} 3\n";
    assert!(metrics.contains(timed), "{metrics}");
}

#[test]
fn reads_are_counted_by_how_the_stream_ends() {
    let metrics = metrics_of(async {
        let store = Observed::new(MemoryStore::new(1000));
        let image = image(600);
        let id = image.metadata.image_id;
        store.save(image).await.unwrap();
        let stream = async |range| store.open(id).await.unwrap().content.stream(range).await.unwrap();

        let _: Vec<Bytes> = stream(0..600).await.try_collect().await.unwrap();
        // A server that knows the length takes the last chunk and asks no more.
        let chunk = stream(100..200).await.try_next().await.unwrap().unwrap();
        assert_eq!(chunk.len(), 100);
        let beyond: Result<Vec<Bytes>, _> = stream(0..601).await.try_collect().await;
        beyond.unwrap_err();
        drop(stream(0..600).await);
    });
    for expected in [
        operation("open", "ok", 4),
        operation("read", "ok", 2),
        operation("read", "corrupt", 1),
        operation("read", "cancelled", 1),
        "mcp_image_storage_read_bytes_total{backend=\"memory\"} 700\n".to_owned(),
    ] {
        assert!(metrics.contains(&expected), "{expected} is not in\n{metrics}");
    }
}

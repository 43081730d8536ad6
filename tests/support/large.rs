//! Large pictures, which are so because nothing in them is compressed.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use image::{ExtendedColorType, ImageEncoder, codecs::png};
use mcp_image_server::{
    image::{Format, Generation, ImageId, Metadata},
    storage::{FileStore, ImageStore, NewImage},
};

use crate::client::content_hash;

/// Bytes of a pixel.
const PIXEL: u32 = 3;

/// A square PNG of a little more than so many megabytes (2^20 bytes), and its side.
pub(crate) fn png(megabytes: u32) -> (Bytes, u32) {
    let side = ((megabytes << 20) / PIXEL).isqrt() + 1;
    let shade = |at: u32| u8::try_from(at * 255 / side).unwrap_or(u8::MAX);
    let pixels: Vec<_> = (0..side * side).flat_map(|at| [shade(at % side), shade(at / side), 99]).collect();
    let mut encoded = Vec::new();
    let (plain, unfiltered) = (png::CompressionType::Uncompressed, png::FilterType::NoFilter);
    png::PngEncoder::new_with_quality(&mut encoded, plain, unfiltered)
        .write_image(&pixels, side, side, ExtendedColorType::Rgb8)
        .expect("encodes");
    (encoded.into(), side)
}

/// Puts such a picture into a store's folder, as one made `age` ago that lives for `life`.
pub(crate) async fn stored(folder: &Path, megabytes: u32, age: Duration, life: Duration) -> NewImage {
    let (bytes, side) = png(megabytes);
    put(folder, bytes, side, age, life).await
}

/// Puts what may be a square PNG into a store's folder, as [`stored`] does.
pub(crate) async fn put(folder: &Path, bytes: Bytes, side: u32, age: Duration, life: Duration) -> NewImage {
    let created = SystemTime::now() - age;
    let metadata = Metadata {
        image_id: ImageId::at(created),
        format: Format::Png,
        width: side,
        height: side,
        size_bytes: bytes.len() as u64,
        blake3: content_hash(&bytes),
        created_at: created.into(),
        expires_at: (created + life).into(),
        thumbhash: None,
        generation: Generation {
            prompt: "large".to_owned(),
            negative_prompt: None,
            num_inference_steps: 1,
            guidance_scale: 1.0,
            seed: None,
            model: "large".to_owned(),
            predictor: "none".to_owned(),
            generation_seconds: 0.0,
        },
    };
    let image = NewImage { bytes, metadata };
    let store = FileStore::open(folder, false).expect("a store");
    store.save(image.clone()).await.expect("saved");
    image
}

/// Where the server has it.
pub(crate) fn path_of(image: &NewImage) -> String {
    format!("/images/{}", image.metadata.file_name())
}

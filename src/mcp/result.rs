//! The shape of a tool result.
//!
//! Hosts differ in what they show: some only text, some only structured content, some no images,
//! and most cap the size. So each part says what is needed, and the whole stays small.

use bytes::Bytes;
use rmcp::model::{CallToolResult, ContentBlock, Resource};
use serde_json::json;

use super::Generate;
use crate::generate::Generated;

/// Characters of a whole result at most, as JSON.
const MAX_CHARS: usize = 128_000;
/// Bytes of a preview at most.
const MAX_PREVIEW_BYTES: usize = 90_000;
/// A preview that must be smaller than this shows too little to be sent.
const MIN_PREVIEW_BYTES: usize = 2_000;

/// The result of a generation: text, preview, link, structured content.
pub(super) async fn of_image(
    generated: &Generated,
    include_preview: bool,
    maker: &dyn Generate,
) -> CallToolResult {
    let metadata = &generated.metadata;
    let link = Resource::new(&generated.url, metadata.file_name())
        .with_title("The generated image")
        .with_mime_type(metadata.format.media_type())
        .with_size(metadata.size_bytes);
    let content = vec![ContentBlock::text(text(generated)), ContentBlock::resource_link(link)];
    let mut result = CallToolResult::success(content);
    result.structured_content =
        Some(json!({"url": generated.url, "image_id": metadata.image_id, "metadata": metadata}));

    if include_preview
        && let Some(max_bytes) = room_for_preview(&result)
        && let Some((preview, media_type)) = maker.preview(generated, max_bytes).await
        && fits(&preview, max_bytes)
    {
        let data = base64_simd::STANDARD.encode_to_string(&preview);
        result.content.insert(1, ContentBlock::image(data, media_type));
    }
    result
}

/// The result of a call that gave no image. Without structured content: that is for images.
pub(super) fn of_failure(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn text(generated: &Generated) -> String {
    let metadata = &generated.metadata;
    let seed = match metadata.generation.seed {
        Some(seed) => seed.to_string(),
        None => "none, the model takes none".to_owned(),
    };
    format!(
        "Image: {}\nImage id: {}\nSize: {} x {} pixels, {}, {} bytes\nSeed: {seed}\nModel: {}\nExpires: {}",
        generated.url,
        metadata.image_id,
        metadata.width,
        metadata.height,
        metadata.format,
        metadata.size_bytes,
        metadata.generation.model,
        metadata.expires_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )
}

/// Bytes that a preview may have beside the rest of the result: a long prompt takes room from it.
fn room_for_preview(rest: &CallToolResult) -> Option<usize> {
    let taken = serde_json::to_string(rest).ok()?.chars().count();
    let bytes = (MAX_CHARS.saturating_sub(taken) / 4 * 3).min(MAX_PREVIEW_BYTES);
    (bytes >= MIN_PREVIEW_BYTES).then_some(bytes)
}

fn fits(preview: &Bytes, max_bytes: usize) -> bool {
    let fits = preview.len() <= max_bytes;
    if !fits {
        tracing::warn!(bytes = preview.len(), max_bytes, "a preview is over its limit and left out");
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::fake::{self, Fake};

    fn chars(result: &CallToolResult) -> usize {
        serde_json::to_string(result).unwrap().chars().count()
    }

    #[tokio::test]
    async fn result_says_everything_in_each_part() {
        let image = fake::generated();
        let result = of_image(&image, true, &Fake::default()).await;
        let json = serde_json::to_value(&result).unwrap();
        let text = json["content"][0]["text"].as_str().unwrap();
        let id = image.metadata.image_id.to_string();
        for part in
            [image.url.as_str(), &id, "512 x 256 pixels", "Seed: 7", "a-model", "2030-01-01T00:00:00Z"]
        {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert_eq!(json["content"][1]["type"], "image");
        assert_eq!(json["content"][1]["mimeType"], "image/webp");
        let link = &json["content"][2];
        assert_eq!(link["type"], "resource_link");
        assert_eq!((link["uri"].as_str(), link["size"].as_u64()), (Some(image.url.as_str()), Some(5)));
        assert_eq!(link["mimeType"], "image/png");
        assert_eq!(json["structuredContent"]["image_id"], json!(id));
        assert_eq!(json["structuredContent"]["url"], json!(image.url));
        assert_eq!(json["structuredContent"]["metadata"]["blake3"], json!(image.metadata.blake3));
        assert_eq!(json["isError"], false);
    }

    #[tokio::test]
    async fn preview_is_left_out_when_opted_out() {
        let result = of_image(&fake::generated(), false, &Fake::default()).await;
        assert!(result.content.iter().all(|block| block.as_image().is_none()));
        assert_eq!(result.content.len(), 2);
    }

    #[tokio::test]
    async fn largest_preview_stays_within_the_limit_of_the_result() {
        let maker = Fake { preview_bytes: usize::MAX, ..Fake::default() };
        let result = of_image(&fake::generated(), true, &maker).await;
        let preview = result.content[1].as_image().unwrap();
        assert_eq!(preview.data.len(), MAX_PREVIEW_BYTES / 3 * 4);
        assert!(chars(&result) < 130_000, "{}", chars(&result));
    }

    #[tokio::test]
    async fn long_prompt_takes_room_from_the_preview() {
        let maker = Fake { preview_bytes: usize::MAX, ..Fake::default() };
        let mut image = fake::generated();
        // The longest JSON of a character: six for one.
        image.metadata.generation.prompt = "\u{1}".repeat(10_000);
        let result = of_image(&image, true, &maker).await;
        assert!(result.content[1].as_image().is_some());
        assert!(chars(&result) < 130_000, "{}", chars(&result));

        image.metadata.generation.negative_prompt = Some("\u{1}".repeat(10_000));
        let result = of_image(&image, true, &maker).await;
        assert!(chars(&result) < 130_000, "{}", chars(&result));
    }

    #[tokio::test]
    async fn preview_over_its_limit_is_left_out() {
        let maker = Fake { preview_bytes: 100_000, obedient: false, ..Fake::default() };
        let result = of_image(&fake::generated(), true, &maker).await;
        assert_eq!(result.content.len(), 2);
    }
}

//! The tool: what clients and models read of it, and its arguments.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::generate::{FieldError, InvalidParams, Params, input_schema};

/// The tool's name.
pub const NAME: &str = "generate_image";

const INCLUDE_PREVIEW: &str = "include_preview";

/// The tool's arguments, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// What the pipeline gets.
    pub params: Params,
    /// Whether the result shows a small preview.
    pub include_preview: bool,
}

impl Arguments {
    /// Validates a call's arguments.
    ///
    /// # Errors
    /// Every argument that is unknown, missing, of the wrong type or out of range, together.
    pub fn from_json(arguments: &JsonObject) -> Result<Self, InvalidParams> {
        let preview = match arguments.get(INCLUDE_PREVIEW) {
            None | Some(Value::Null) => Ok(true),
            Some(Value::Bool(wanted)) => Ok(*wanted),
            Some(other) => Err(FieldError::new(INCLUDE_PREVIEW, Some(other), "true or false")),
        };
        match (Params::from_json_beside(arguments, &[INCLUDE_PREVIEW]), preview) {
            (Ok(params), Ok(include_preview)) => Ok(Self { params, include_preview }),
            (Ok(_), Err(error)) => Err(InvalidParams(vec![error])),
            (Err(InvalidParams(mut errors)), preview) => {
                errors.extend(preview.err());
                Err(InvalidParams(errors))
            }
        }
    }
}

/// The tool as `tools/list` shows it; `drawn_by` is a sentence about who draws.
pub(super) fn definition(drawn_by: &str) -> Tool {
    let description = format!(
        "Draws one image from a text prompt and returns its URL, its metadata and a small preview. \
         {drawn_by} Write the prompt in full sentences or comma-separated phrases: subject, style, \
         colours, light, composition. Leave optional arguments out unless the user asks for them. \
         A call may take from seconds to minutes; it reports progress and can be cancelled. \
         Give the user the URL from the result: it works until the image expires. To draw a variation, \
         repeat the call with the same seed and a changed prompt."
    );
    let annotations = ToolAnnotations::with_title("Generate an image")
        .read_only(false)
        .destructive(false)
        .idempotent(false)
        .open_world(true);
    Tool::new(NAME, description, Arc::new(arguments_schema()))
        .with_title("Generate an image")
        .with_raw_output_schema(Arc::new(result_schema()))
        .with_annotations(annotations)
}

fn arguments_schema() -> JsonObject {
    let mut schema = input_schema();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert(
            INCLUDE_PREVIEW.to_owned(),
            json!({
                "type": "boolean",
                "default": true,
                "description": "Whether the result shows a small preview of the image; false saves context",
            }),
        );
    }
    schema
}

/// The JSON Schema of a result's `structuredContent`. Written out, because derived ones carry
/// `format: uint32` and `type: [.., "null"]`, at which clients balk.
fn result_schema() -> JsonObject {
    let image_id = json!({
        "type": "string",
        "format": "uuid",
        "description": "The image's id, a UUIDv7: ids sort by age",
    });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "url": {"type": "string", "format": "uri", "description": "Where the image can be had by HTTP GET"},
            "image_id": image_id,
            "metadata": {
                "type": "object",
                "description": "What is known about the image",
                "properties": {
                    "image_id": image_id,
                    "format": {"type": "string", "enum": ["png", "jpeg", "webp"]},
                    "width": {"type": "integer", "minimum": 1, "description": "Pixels across"},
                    "height": {"type": "integer", "minimum": 1, "description": "Pixels down"},
                    "size_bytes": {"type": "integer", "minimum": 1, "description": "Length in bytes"},
                    "blake3": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Hash of the bytes"},
                    "created_at": {"type": "string", "format": "date-time"},
                    "expires_at": {
                        "type": "string",
                        "format": "date-time",
                        "description": "From this moment on the URL answers 404",
                    },
                    "thumbhash": {
                        "type": "string",
                        "description": "A placeholder to draw while the image loads, in base64; absent where none was made",
                    },
                    "prompt": {"type": "string"},
                    "negative_prompt": {"type": "string"},
                    "num_inference_steps": {"type": "integer", "minimum": 1},
                    "guidance_scale": {"type": "number"},
                    "seed": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": u32::MAX,
                        "description": "The seed that was used; absent where the model takes none",
                    },
                    "model": {"type": "string", "description": "The model's name"},
                    "predictor": {"type": "string", "description": "How the model was reached"},
                    "generation_seconds": {
                        "type": "number",
                        "minimum": 0,
                        "description": "Seconds the model took",
                    },
                },
                "required": [
                    "image_id", "format", "width", "height", "size_bytes", "blake3", "created_at",
                    "expires_at", "prompt", "num_inference_steps", "guidance_scale", "model",
                    "predictor", "generation_seconds",
                ],
            },
        },
        "required": ["url", "image_id", "metadata"],
    });
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::fake;

    fn parse(arguments: Value) -> Result<Arguments, InvalidParams> {
        Arguments::from_json(arguments.as_object().expect("an object"))
    }

    #[test]
    fn preview_is_wanted_unless_opted_out() {
        for (given, expected) in [(json!(null), true), (json!(true), true), (json!(false), false)] {
            let arguments = parse(json!({"prompt": "a fox", "include_preview": given})).unwrap();
            assert_eq!(arguments.include_preview, expected);
        }
        assert!(parse(json!({"prompt": "a fox"})).unwrap().include_preview);
    }

    #[test]
    fn faults_of_all_arguments_are_told_together() {
        let arguments = json!({"include_preview": "no", "width": 7, "include_previews": true});
        let text = parse(arguments).unwrap_err().to_string();
        for part in [
            "`include_preview` is \"no\"; allowed: true or false",
            "`width` is 7",
            "`prompt` is missing",
            "`include_previews` is true; allowed: no such argument",
            "seed, include_preview",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }

    #[test]
    fn preview_alone_at_fault_is_refused() {
        let error = parse(json!({"prompt": "a fox", "include_preview": 1})).unwrap_err();
        assert_eq!(error.0.len(), 1);
    }

    fn each_schema(value: &Value, check: &mut impl FnMut(&JsonObject)) {
        match value {
            Value::Object(map) => {
                check(map);
                map.values().for_each(|value| each_schema(value, check));
            }
            Value::Array(list) => list.iter().for_each(|value| each_schema(value, check)),
            _ => {}
        }
    }

    #[test]
    fn schemas_hold_nothing_that_clients_balk_at() {
        let tool = serde_json::to_value(definition("A test draws it.")).unwrap();
        let mut seen = 0;
        each_schema(&tool, &mut |schema| {
            seen += 1;
            if let Some(format) = schema.get("format").and_then(Value::as_str) {
                assert!(["uuid", "uri", "date-time"].contains(&format), "{format}");
            }
            if schema.contains_key("enum") || schema.contains_key("minimum") {
                assert!(schema["type"].is_string(), "{schema:?}");
            }
        });
        assert!(seen > 20, "the schemas were walked");
    }

    #[test]
    fn result_schema_names_exactly_what_metadata_has() {
        let mut image = fake::generated();
        let full = serde_json::to_value(&image.metadata).unwrap();
        let schema = result_schema();
        let metadata = &schema["properties"]["metadata"];
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&full), names(&metadata["properties"]));

        image.metadata.generation.seed = None;
        image.metadata.generation.negative_prompt = None;
        image.metadata.thumbhash = None;
        let least = serde_json::to_value(&image.metadata).unwrap();
        let mut required: Vec<_> =
            metadata["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        required.sort_unstable();
        assert_eq!(names(&least), required);
    }

    #[test]
    fn definition_says_who_draws_and_that_nothing_is_destroyed() {
        let tool = serde_json::to_value(definition("A test draws it.")).unwrap();
        assert!(tool["description"].as_str().unwrap().contains("A test draws it."));
        assert_eq!(tool["annotations"]["destructiveHint"], false);
        assert_eq!(tool["inputSchema"]["properties"]["include_preview"]["default"], true);
        assert_eq!(tool["inputSchema"]["required"], json!(["prompt"]));
        assert_eq!(tool["outputSchema"]["type"], "object");
    }
}

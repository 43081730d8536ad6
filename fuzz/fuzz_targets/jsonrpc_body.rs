//! A JSON-RPC body, down to the tool's arguments.
//!
//! Invariants: what the guard takes, JSON takes too; arguments that are taken are within every range
//! that the schema promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::{
    generate::{Params, input_schema},
    mcp::parse_body,
};
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let message = parse_body(body);
    let value = serde_json::from_slice::<Value>(body);
    if message.is_ok() {
        // serde_json's own depth limit is the only thing that may stand between the two.
        assert!(value.as_ref().is_ok_and(Value::is_object) || depth(body) > 100);
    }
    let Ok(value) = value else { return };
    let arguments = value.pointer("/params/arguments").unwrap_or(&value);
    let Some(arguments) = arguments.as_object() else { return };
    match Params::from_json(arguments) {
        Ok(params) => within_schema(&params),
        Err(invalid) => {
            assert!(!invalid.0.is_empty());
            for error in invalid.0 {
                assert!(!error.field.is_empty() || arguments.contains_key(""));
                assert!(!error.allowed.is_empty());
                assert!(error.to_string().len() < 2_000, "an error is short, whatever the value is");
            }
        }
    }
});

fn within_schema(params: &Params) {
    let schema = Value::Object(input_schema());
    let bounds = |name: &str, value: f64| {
        let property = &schema["properties"][name];
        assert!(property["minimum"].as_f64().is_none_or(|minimum| value >= minimum), "{name} {value}");
        assert!(property["maximum"].as_f64().is_none_or(|maximum| value <= maximum), "{name} {value}");
        assert!(property["multipleOf"].as_f64().is_none_or(|multiple| value % multiple == 0.0), "{name} {value}");
    };
    bounds("width", params.width.into());
    bounds("height", params.height.into());
    bounds("num_inference_steps", params.num_inference_steps.into());
    bounds("guidance_scale", params.guidance_scale);
    bounds("seed", params.seed.unwrap_or_default().into());
    assert!((1..=10_000).contains(&params.prompt.chars().count()));
    assert!(!params.prompt.contains('\0'));
}

fn depth(body: &[u8]) -> usize {
    body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

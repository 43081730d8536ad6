//! Calls of the tool.

use super::*;

#[tokio::test]
async fn call_gives_every_part_of_a_result_in_both_eras() {
    let (endpoint, fake) = endpoint(Act::Answer);
    for (request, result_type) in both("tools/call", call(json!({"prompt": "a red fox"})))
        .into_iter()
        .zip([json!(null), json!("complete")])
    {
        let result = send(&endpoint, request).await.result();
        let types: Vec<_> = result["content"].as_array().unwrap().iter().map(|part| &part["type"]).collect();
        assert_eq!(types, ["text", "image", "resource_link"]);
        assert_eq!(result["structuredContent"]["metadata"]["prompt"], "a red fox");
        assert_eq!(result["resultType"], result_type);
        assert_eq!(result["isError"], false);
    }
    assert_eq!(fake.calls(), 2);
}

#[tokio::test]
async fn preview_is_opted_out_of() {
    let (endpoint, _) = endpoint(Act::Answer);
    let arguments = json!({"prompt": "a fox", "include_preview": false});
    let result = send(&endpoint, legacy("tools/call", call(arguments))).await.result();
    assert_eq!(result["content"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn invalid_arguments_are_a_tool_error_and_reach_nobody() {
    let (endpoint, fake) = endpoint(Act::Answer);
    for (arguments, part) in [
        (json!({}), "`prompt` is missing"),
        (json!({"prompt": ""}), "`prompt` is \"\""),
        (json!({"prompt": "a\u{0}b"}), "without NUL"),
        (json!({"prompt": "a", "width": 100}), "multiple of 8"),
        (json!({"prompt": "a", "widht": 512}), "no such argument"),
        (json!({"prompt": "a", "include_preview": "yes"}), "true or false"),
    ] {
        for request in both("tools/call", call(arguments.clone())) {
            let result = send(&endpoint, request).await.result();
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.contains(part), "{part:?} in {text:?}");
            assert_eq!(result["isError"], true);
            assert!(result.get("structuredContent").is_none());
        }
    }
    for request in both("tools/call", json!({"name": "generate_image"})) {
        assert_eq!(send(&endpoint, request).await.result()["isError"], true);
    }
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn unknown_tool_is_a_protocol_error() {
    let (endpoint, fake) = endpoint(Act::Answer);
    for request in both("tools/call", json!({"name": "generate_video", "arguments": {"prompt": "a"}})) {
        let answer = send(&endpoint, request).await;
        assert_eq!(answer.error(), (200, -32602));
        assert!(answer.text.contains("generate_video") && answer.text.contains("generate_image"));
    }
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn failure_of_the_pipeline_is_a_tool_error() {
    let (endpoint, _) = endpoint(Act::Fail);
    for request in both("tools/call", call(json!({"prompt": "a fox"}))) {
        let result = send(&endpoint, request).await.result();
        assert_eq!(result["isError"], true);
        assert_eq!(
            result["content"],
            json!([{"type": "text", "text": "the image model ran out of memory; ask for a smaller width and height"}])
        );
        assert!(result.get("structuredContent").is_none());
    }
}

#[tokio::test]
async fn panic_is_answered_without_a_word_of_it() {
    let (endpoint, _) = endpoint(Act::Panic);
    for request in both("tools/call", call(json!({"prompt": "a fox"}))) {
        let answer = send(&endpoint, request).await;
        assert_eq!(answer.result()["isError"], true);
        assert!(!answer.text.contains("a panic for a test"), "{}", answer.text);
    }
}

//! Lifecycle, discovery and errors of the protocol, in both eras.

use super::*;

#[tokio::test]
async fn initialize_agrees_on_each_older_revision() {
    let (endpoint, _) = endpoint(Act::Answer);
    for (asked, agreed) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let result = send(&endpoint, legacy("initialize", params)).await.result();
        assert_eq!(result["protocolVersion"], agreed, "{asked}");
        assert_eq!(result["serverInfo"]["name"], "test-server");
        assert_eq!(result["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(result["serverInfo"]["title"].is_string() && result["instructions"].is_string());
        assert_eq!(result["capabilities"], json!({"tools": {}}));
    }
}

#[tokio::test]
async fn discover_tells_revisions_and_how_long_they_hold() {
    let (endpoint, _) = endpoint(Act::Answer);
    let result = send(&endpoint, modern("server/discover", json!({}))).await.result();
    assert_eq!(result["supportedVersions"], json!(["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]));
    assert_eq!(result["resultType"], "complete");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(300_000), &json!("public")));
    assert_eq!(result["capabilities"], json!({"tools": {}}));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "test-server");
}

#[tokio::test]
async fn tools_are_listed_in_the_shape_of_each_era() {
    let (endpoint, _) = endpoint(Act::Answer);
    let old = send(&endpoint, legacy("tools/list", json!({}))).await.result();
    let new = send(&endpoint, modern("tools/list", json!({}))).await.result();
    assert_eq!(old["tools"], new["tools"]);
    assert_eq!(old["tools"][0]["name"], "generate_image");
    let fields = |result: &Value| result.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&old), ["tools"]);
    assert_eq!(fields(&new), ["cacheScope", "resultType", "tools", "ttlMs"]);
}

#[tokio::test]
async fn cursor_that_nobody_gave_out_is_refused() {
    let (endpoint, _) = endpoint(Act::Answer);
    for request in both("tools/list", json!({"cursor": "made up"})) {
        assert_eq!(send(&endpoint, request).await.error(), (200, -32602));
    }
}

#[tokio::test]
async fn ping_is_answered_where_it_exists() {
    let (endpoint, _) = endpoint(Act::Answer);
    assert_eq!(send(&endpoint, legacy("ping", json!({}))).await.result(), json!({}));
    let bare = raw(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#);
    assert_eq!(send(&endpoint, bare).await.json()["id"], "a");
    assert_eq!(send(&endpoint, modern("ping", json!({}))).await.error(), (404, -32601));
}

#[tokio::test]
async fn unknown_method_is_404_in_the_new_era_and_an_error_in_the_old() {
    let (endpoint, _) = endpoint(Act::Answer);
    for method in
        ["no/such", "prompts/list", "resources/read", "tasks/get", "logging/setLevel", "subscriptions/listen"]
    {
        let answer = send(&endpoint, legacy(method, json!({}))).await;
        assert_eq!(answer.error(), (200, -32601), "{method} {}", answer.text);
        let answer = send(&endpoint, modern(method, json!({}))).await;
        assert_eq!(answer.error(), (404, -32601), "{method} {}", answer.text);
    }
}

#[tokio::test]
async fn params_of_the_wrong_shape_are_invalid_params() {
    let (endpoint, fake) = endpoint(Act::Answer);
    for (method, params) in [
        ("tools/call", json!({})),
        ("tools/call", json!({"name": 7})),
        ("tools/call", json!({"name": "generate_image", "arguments": []})),
        ("tools/call", json!({"name": "generate_image", "arguments": "a fox"})),
    ] {
        for (mut request, expected) in both(method, params.clone()).into_iter().zip([200, 200]) {
            if request.headers().contains_key("mcp-method") && params["name"] == "generate_image" {
                request.headers_mut().insert("mcp-name", "generate_image".parse().unwrap());
            }
            let answer = send(&endpoint, request).await;
            assert_eq!(answer.error(), (expected, -32602), "{method} {params} {}", answer.text);
            assert!(answer.text.contains(method), "{}", answer.text);
        }
    }
    let answer = send(&endpoint, legacy("initialize", json!({"protocolVersion": 1}))).await;
    assert_eq!(answer.error(), (200, -32602));
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn header_that_differs_from_the_body_is_a_mismatch() {
    let (endpoint, fake) = endpoint(Act::Answer);
    let changes: [(&str, &[&str]); 7] = [
        ("mcp-method", &["tools/list"]),
        ("mcp-method", &[]),
        ("mcp-method", &["tools/call", "tools/call"]),
        ("mcp-name", &["another"]),
        ("mcp-name", &[]),
        ("mcp-protocol-version", &["2025-11-25"]),
        ("mcp-protocol-version", &[]),
    ];
    for (name, values) in changes {
        let mut request = modern("tools/call", call(json!({"prompt": "a fox"})));
        request.headers_mut().remove(name);
        for value in values {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let answer = send(&endpoint, request).await;
        assert_eq!(answer.error(), (400, -32020), "{name} {values:?} {}", answer.text);
        assert_eq!(answer.json()["id"], 1);
    }
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn new_era_without_its_meta_is_refused() {
    let (endpoint, _) = endpoint(Act::Answer);
    let mut request = legacy("tools/list", json!({}));
    request.headers_mut().insert("mcp-protocol-version", MODERN.parse().unwrap());
    request.headers_mut().insert("mcp-method", "tools/list".parse().unwrap());
    assert_eq!(send(&endpoint, request).await.error(), (400, -32602));
    assert_eq!(send(&endpoint, legacy("server/discover", json!({}))).await.error(), (400, -32602));
}

#[tokio::test]
async fn revision_that_is_not_known_is_refused_with_the_known_ones() {
    let (endpoint, _) = endpoint(Act::Answer);
    for version in ["2099-01-01", "latest", "\u{e9}"] {
        let mut request = legacy("tools/list", json!({}));
        let value = http::HeaderValue::from_bytes(version.as_bytes()).unwrap();
        request.headers_mut().insert("mcp-protocol-version", value);
        let answer = send(&endpoint, request).await;
        assert_eq!(answer.error(), (400, -32022), "{version} {}", answer.text);
        assert_eq!(answer.json()["error"]["data"]["supported"][0], "2025-03-26");
    }
    let mut request = modern("tools/list", json!({}));
    let body = send(&endpoint, {
        request.headers_mut().insert("mcp-protocol-version", "2099-01-01".parse().unwrap());
        let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01", "io.modelcontextprotocol/clientCapabilities": {}}});
        *request.body_mut() = Body::full(
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": meta}).to_string(),
        );
        request
    });
    assert_eq!(body.await.error(), (400, -32022));
}

#[tokio::test]
async fn notification_is_accepted_without_a_body() {
    let (endpoint, _) = endpoint(Act::Answer);
    for method in ["notifications/initialized", "notifications/cancelled", "notifications/made-up"] {
        let answer = send(&endpoint, raw(json!({"jsonrpc": "2.0", "method": method}).to_string())).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, ""), "{method}");
    }
}

#[tokio::test]
async fn response_of_a_client_is_refused_as_nothing_was_asked() {
    let (endpoint, _) = endpoint(Act::Answer);
    let answer = send(&endpoint, raw(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
    assert_eq!(answer.error(), (400, -32600));
}

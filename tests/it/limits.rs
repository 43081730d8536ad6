//! How much a client may ask, and who a client is.

use mcp_image_server::api::GENERATE_IMAGE;
use serde_json::json;

use crate::{
    client::{Answer, Client, Era},
    server::TestServer,
};

/// Two requests at once, and hardly any after that.
const TWO: [(&str, &str); 2] = [("REQUEST_RATE", "1"), ("REQUEST_BURST", "2")];
/// A network that proxies come from here, and no other client of these tests.
const PROXY: &str = "127.0.0.9";

/// A request that costs a token, and nothing else; its status.
async fn ask(client: &Client, headers: &[(&str, &str)]) -> u16 {
    let request = client.post(GENERATE_IMAGE, "{}");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request).await.status
}

/// Uses up a client's tokens.
async fn exhaust(client: &Client, headers: &[(&str, &str)]) {
    for _ in 0..2 {
        assert_eq!(ask(client, headers).await, 422);
    }
    assert_eq!(ask(client, headers).await, 429);
}

#[tokio::test]
async fn requests_over_the_rate_are_429_with_a_time_to_come_again() {
    let server = TestServer::start_with(&TWO).await;
    let client = server.client();
    exhaust(&client, &[]).await;
    let rest = client.generate(&json!({"prompt": "a fox"})).await;
    rest.problem(429, "rate-limited");
    let mcp = Answer::of(client.rpc(Era::Modern, "tools/list", json!({}))).await;
    mcp.rpc_error(429);
    for answer in [rest, mcp] {
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("ratelimit"), "\"requests\";r=0;t=1");
        assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=2");
    }
    // Images, probes and scrapes are none of these requests.
    for path in ["/images/", "/health", "/health/ready", "/metrics"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn images_have_a_limit_of_their_own() {
    let server = TestServer::start_with(&[("IMAGE_RATE", "1"), ("IMAGE_BURST", "2")]).await;
    let client = server.client();
    for _ in 0..2 {
        client.get("/images/no-id").await.problem(404, "not-found");
    }
    let refused = client.get("/images/no-id").await;
    refused.problem(429, "rate-limited");
    assert_eq!(refused.header("ratelimit-policy"), "\"images\";q=2;w=2");
    assert_eq!(ask(&client, &[]).await, 422);
}

#[tokio::test]
async fn limits_turned_off_do_not_limit() {
    let server =
        TestServer::start_with(&[("REQUEST_RATE", "0"), ("REQUEST_BURST", "1"), ("IMAGE_RATE", "0")]).await;
    let client = server.client();
    for _ in 0..20 {
        assert_eq!(ask(&client, &[]).await, 422);
    }
}

#[tokio::test]
async fn one_client_does_not_use_up_what_another_may_ask() {
    let server = TestServer::start_with(&TWO).await;
    exhaust(&Client::from_address(&server.url(""), "127.0.0.2"), &[]).await;
    assert_eq!(ask(&Client::from_address(&server.url(""), "127.0.0.3"), &[]).await, 422);
}

#[tokio::test]
async fn address_that_a_client_makes_up_changes_nothing() {
    let server = TestServer::start_with(&[&TWO[..], &[("TRUSTED_PROXIES", PROXY)]].concat()).await;
    let client = server.client();
    exhaust(&client, &[("x-forwarded-for", "192.0.2.1")]).await;
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip"] {
        assert_eq!(ask(&client, &[(header, "192.0.2.2")]).await, 429, "{header}");
    }
}

#[tokio::test]
async fn address_that_a_trusted_proxy_tells_is_the_client() {
    let server = TestServer::start_with(&[&TWO[..], &[("TRUSTED_PROXIES", PROXY)]].concat()).await;
    let proxy = Client::from_address(&server.url(""), PROXY);
    exhaust(&proxy, &[("x-forwarded-for", "192.0.2.1")]).await;
    assert_eq!(ask(&proxy, &[("x-forwarded-for", "192.0.2.2")]).await, 422);
    // The rightmost that is no proxy: what stands before it, the client made up.
    for forwarded in ["192.0.2.9, 192.0.2.1", "garbage, 192.0.2.1", "192.0.2.8, 192.0.2.1, 127.0.0.9"] {
        assert_eq!(ask(&proxy, &[("x-forwarded-for", forwarded)]).await, 429, "{forwarded}");
    }
    // A network of IPv6 is one client.
    exhaust(&proxy, &[("x-forwarded-for", "2001:db8:1:2::1")]).await;
    assert_eq!(ask(&proxy, &[("x-forwarded-for", "2001:db8:1:2:ffff::7")]).await, 429);
    assert_eq!(ask(&proxy, &[("x-forwarded-for", "2001:db8:1:3::1")]).await, 422);
}

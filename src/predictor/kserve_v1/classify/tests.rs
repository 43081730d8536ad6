use super::*;

fn classify(status: u16, body: &str) -> Error {
    let refusal = Refusal {
        status: StatusCode::from_u16(status).expect("a status"),
        retry_after: Some(Duration::from_secs(9)),
        body: body.as_bytes(),
        model: "sd",
        elapsed: Duration::from_millis(29_990),
    };
    refusal.classify()
}

#[test]
fn refusal_of_each_kind_is_told_by_its_words() {
    for (status, body, kind) in [
        // The kserve server.
        (400, r#"{"error":"Missing required parameter: prompt"}"#, "rejected"),
        (400, r#"{"error":"invalid payload"}"#, "rejected"),
        (
            400,
            r#"{"error":"Prediction failed: `height` and `width` have to be divisible by 8 but are 100 and 64."}"#,
            "rejected",
        ),
        (400, r#"{"error":"Prediction failed: generator raised StopIteration"}"#, "failed"),
        (
            400,
            r#"{"error":"Prediction failed: CUDA out of memory. Tried to allocate 20.00 MiB"}"#,
            "out_of_memory",
        ),
        (404, r#"{"error":"Model with name nope does not exist."}"#, "no_such_model"),
        (404, r#"{"detail":"Not Found"}"#, "bad_reply"),
        (
            422,
            r#"{"detail":[{"loc":["body","instances"],"msg":"field required","type":"missing"}]}"#,
            "rejected",
        ),
        (500, r#"{"error":"RuntimeError : CUDA out of memory"}"#, "out_of_memory"),
        (500, r#"{"error":"OutOfMemoryError : HIP out of memory"}"#, "out_of_memory"),
        (500, r#"{"error":"ValueError : crash"}"#, "failed"),
        (500, r#"{"error":"ValueError : num_inference_steps must be below 1000"}"#, "rejected"),
        (500, "Internal Server Error", "failed"),
        (503, r#"{"error":"Model with name sd is not ready."}"#, "not_ready"),
        (500, r#"{"error":"Model with name sd is not ready."}"#, "not_ready"),
        (503, r#"{"error":"RuntimeError : CUDA out of memory"}"#, "out_of_memory"),
        // vLLM and its like.
        (503, r#"{"detail":"model is still loading"}"#, "not_ready"),
        (
            400,
            r#"{"error":{"message":"width must be positive","type":"BadRequestError","code":400}}"#,
            "rejected",
        ),
        // Knative, Istio, routers.
        (502, "dial tcp 127.0.0.1:8080: connect: connection refused", "not_ready"),
        (502, "EOF", "interrupted"),
        (502, "<html><head><title>502 Bad Gateway</title></head></html>", "interrupted"),
        (503, "", "not_ready"),
        (503, "no healthy upstream", "not_ready"),
        (503, "pending request queue full", "busy"),
        (503, "upstream connect error or disconnect/reset before headers. reset reason: overflow", "busy"),
        (
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
            "not_ready",
        ),
        (
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            "interrupted",
        ),
        (503, "activator request timeout", "timed_out"),
        (504, "activator request timeout\n", "timed_out"),
        (
            504,
            "<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>",
            "timed_out",
        ),
        (408, "", "timed_out"),
        (429, "slow down", "busy"),
        (401, r#"{"error":"CUDA out of memory"}"#, "unauthorized"),
        (403, "RBAC: access denied", "unauthorized"),
        // What is not the protocol at all.
        (301, "", "bad_reply"),
        (307, "", "bad_reply"),
        (405, r#"{"detail":"Method Not Allowed"}"#, "bad_reply"),
        (413, "", "rejected"),
        (418, "I'm a teapot", "bad_reply"),
        (501, r#"{"error":"v1 protocol not implemented"}"#, "bad_reply"),
    ] {
        assert_eq!(classify(status, body).kind(), kind, "{status} {body}");
    }
}

#[test]
fn refusal_of_an_unknown_keyword_names_it_and_says_what_to_do() {
    for body in [
        r#"{"error":"Prediction failed: FluxPipeline.__call__() got an unexpected keyword argument 'seed'"}"#,
        r#"{"error":"TypeError : f() got an unexpected keyword argument \"seed\". Did you mean 'speed'?"}"#,
        "unexpected keyword argument seed",
    ] {
        for status in [400, 500] {
            let Error::Rejected { parameter, message } = classify(status, body) else { panic!("{body}") };
            assert_eq!(parameter.as_deref(), Some("seed"));
            assert_eq!(message, "leave `seed` out; this model does not take it");
        }
    }
}

#[test]
fn refusal_that_blames_a_parameter_names_it() {
    for (body, expected) in [
        ("the prompt asks for a width that must be divisible by 8", Some("width")),
        ("Missing required parameter: prompt", Some("prompt")),
        ("`negative_prompt` must be text", Some("negative_prompt")),
        ("bandwidth is invalid", None),
    ] {
        let Error::Rejected { parameter, .. } = classify(400, body) else { panic!("{body}") };
        assert_eq!(parameter.as_deref(), expected, "{body}");
    }
}

#[test]
fn refusal_from_outside_is_one_line_of_bounded_length() {
    let body = format!("Traceback:\n  File \"x\"\r\n\u{1b}[31m{}", "é".repeat(1_000));
    let Error::Failed { message } = classify(500, &body) else { panic!("another kind") };
    assert!(message.starts_with("Traceback: File \"x\" [31méé") && message.ends_with('…'), "{message}");
    assert_eq!(message.chars().count(), MAX_MESSAGE + 1);
    let Error::Failed { message } = classify(500, "<!doctype html><p>Oops") else { panic!("another kind") };
    assert_eq!(message, "an HTML page");
}

#[test]
fn refusal_with_retry_after_passes_it_on_and_a_timeout_says_how_long() {
    let asked = Some(Duration::from_secs(9));
    assert!(matches!(classify(429, ""), Error::Busy { retry_after } if retry_after == asked));
    for body in ["", r#"{"error":"Model with name sd is not ready."}"#] {
        assert!(matches!(classify(503, body), Error::NotReady { retry_after } if retry_after == asked));
    }
    assert!(matches!(classify(504, ""), Error::TimedOut(after) if after == Duration::from_secs(30)));
}

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use layers::trace::{Kind, Value};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use super::*;

fn finished() -> Finished {
    Finished {
        name: "generate".into(),
        kind: Kind::Client,
        trace_id: TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        span_id: 0x00f0_67aa_0ba9_02b7,
        parent_id: Some(0xb7ad_6b71_6920_3331),
        has_remote_parent: true,
        tracestate: Some(HeaderValue::from_static("a=1")),
        started_at: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5),
        duration: Duration::from_millis(1_500),
        attributes: vec![
            ("text", Value::from("é".repeat(100))),
            ("whole", Value::Integer(-7)),
            ("large", Value::from(u64::MAX)),
            ("real", Value::from(7.5)),
        ],
        failed: true,
    }
}

fn decoded(spans: &[Finished]) -> (Vec<KeyValue>, Vec<Span>) {
    let resource = [("service.name".to_owned(), "images".to_owned())];
    let request = Encoder::new(&resource).request(spans);
    let mut request = ExportTraceServiceRequest::decode(&*request).expect("a request");
    let resource_spans = request.resource_spans.remove(0);
    let scope_spans = &resource_spans.scope_spans[0];
    assert_eq!(scope_spans.scope.as_ref().expect("a scope").name, env!("CARGO_PKG_NAME"));
    assert!(request.resource_spans.is_empty());
    (resource_spans.resource.expect("a resource").attributes, scope_spans.spans.clone())
}

fn value(attribute: &KeyValue) -> Any {
    attribute.value.clone().and_then(|value| value.value).expect("a value")
}

#[test]
fn request_is_read_back_as_what_was_written() {
    let (resource, spans) = decoded(&[finished(), finished()]);
    assert_eq!(
        (resource[0].key.as_str(), value(&resource[0])),
        ("service.name", Any::StringValue("images".into()))
    );
    assert_eq!(spans.len(), 2);
    let span = &spans[1];
    assert_eq!(span.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(span.span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((span.name.as_str(), span.trace_state.as_str()), ("generate", "a=1"));
    assert_eq!((span.kind(), span.flags), (SpanKind::Client, 0x301));
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_000_000_005);
    assert_eq!(span.end_time_unix_nano, 1_700_000_001_500_000_005);
    assert_eq!(span.status.as_ref().expect("a status").code(), StatusCode::Error);
    let attributes: Vec<_> = span.attributes.iter().map(|one| (one.key.as_str(), value(one))).collect();
    let expected = [
        ("text", Any::StringValue("é".repeat(100))),
        ("whole", Any::IntValue(-7)),
        ("large", Any::IntValue(i64::MAX)),
        ("real", Any::DoubleValue(7.5)),
    ];
    assert_eq!(attributes, expected);
}

#[test]
fn first_span_of_a_trace_is_written_without_a_parent_and_a_status() {
    let root = Finished {
        parent_id: None,
        has_remote_parent: false,
        tracestate: None,
        failed: false,
        kind: Kind::Server,
        ..finished()
    };
    let (_, spans) = decoded(&[root]);
    assert!(spans[0].parent_span_id.is_empty() && spans[0].trace_state.is_empty());
    assert!(spans[0].status.is_none());
    assert_eq!((spans[0].kind(), spans[0].flags), (SpanKind::Server, 0x101));
}

#[tokio::test]
async fn span_that_finds_the_queue_full_is_dropped_and_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let (queue, mut spans) = mpsc::channel(2);
    let recording = Recorder { queue, sampler: Sampler::AlwaysOn };
    metrics::with_local_recorder(&recorder, || (0..5).for_each(|_| recording.record(finished())));
    let text = recorder.handle().render();
    assert!(text.contains("mcp_image_trace_spans_total{outcome=\"dropped\"} 3\n"), "{text}");
    assert_eq!(spans.recv_many(&mut Vec::new(), 10).await, 2);
}

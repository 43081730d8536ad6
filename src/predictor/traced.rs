//! A predictor whose calls are spans.

use async_trait::async_trait;
use layers::trace::{self, Kind};

use super::{Description, Error, Prediction, Predictor, ProgressSender, Request, State};

/// A predictor whose predictions are spans of the current trace: calls to another process, or work within this one.
#[derive(Debug)]
pub struct Traced<P> {
    inner: P,
    description: Description,
    /// Host and port, where it is another process.
    server: Option<(String, u16)>,
}

impl<P: Predictor> Traced<P> {
    /// Traces `inner`.
    pub fn new(inner: P) -> Self {
        let description = inner.describe();
        let url = description.endpoint.as_deref().and_then(|endpoint| url::Url::parse(endpoint).ok());
        let server = url.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        Self { inner, description, server }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Predictor> Predictor for Traced<P> {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    /// By the conventions for generative AI; neither the prompt nor the image is in it.
    async fn predict(&self, request: &Request, progress: &ProgressSender) -> Result<Prediction, Error> {
        let kind = if self.server.is_some() { Kind::Client } else { Kind::Internal };
        let model = &self.description.model;
        let mut span = trace::span(kind, || format!("generate_content {model}"));
        if span.is_recorded() {
            span.set("gen_ai.operation.name", "generate_content");
            span.set("gen_ai.output.type", "image");
            span.set("gen_ai.provider.name", self.description.protocol);
            span.set("gen_ai.request.model", model.clone());
            if let Some(seed) = request.seed {
                span.set("gen_ai.request.seed", seed);
            }
            if let Some((host, port)) = &self.server {
                span.set("server.address", host.clone());
                span.set("server.port", *port);
            }
        }
        let call = self.inner.predict(request, progress);
        let result = if span.is_recorded() { span.run(call).await } else { call.await };
        if span.is_recorded() {
            match &result {
                Ok(prediction) => {
                    if let Some(model) = &prediction.model {
                        span.set("gen_ai.response.model", model.clone());
                    }
                }
                Err(error) => span.fail(error.kind()),
            }
        }
        result
    }

    async fn probe(&self) -> State {
        self.inner.probe().await
    }
}

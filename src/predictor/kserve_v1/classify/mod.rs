//! What a refusal means, told by its words: newer runtimes answer 400 to every failure, out of
//! memory included, and gateways in front of them answer in plain text or HTML.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::super::Error;
use super::instance::Key;

/// Characters of a model's message that a caller sees.
const MAX_MESSAGE: usize = 240;

/// An answer that is no prediction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// The body, or its beginning.
    pub(super) body: &'a [u8],
    /// The name that was asked for.
    pub(super) model: &'a str,
    /// From dispatch to the answer.
    pub(super) elapsed: Duration,
}

impl Refusal<'_> {
    /// The error that this answer is.
    pub(super) fn classify(&self) -> Error {
        match self.status.as_u16() {
            401 | 403 => return Error::Unauthorized,
            300..=399 => return self.bad_reply("a redirect, which is never followed"),
            _ => {}
        }
        let message = self.message();
        match by_message(&message) {
            Some(Error::NotReady { .. }) => Error::NotReady { retry_after: self.retry_after },
            Some(error) => error,
            None => self.by_status(message),
        }
    }

    /// The key that the model says it does not know.
    pub(super) fn unknown_key(&self) -> Option<Key> {
        unexpected_keyword(&self.message()).and_then(|name| Key::named(&name))
    }

    fn by_status(&self, message: String) -> Error {
        let said = message.to_ascii_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let not_ready = Error::NotReady { retry_after: self.retry_after };
        let busy = Error::Busy { retry_after: self.retry_after };
        match self.status.as_u16() {
            429 => busy,
            408 | 504 => self.timed_out(),
            502 | 503
                if any(&["timeout", "timed out"]) && !any(&["connect timeout", "connection timeout"]) =>
            {
                self.timed_out()
            }
            502 | 503
                if any(&["queue full", "queue is full", "overload", "overflow", "too many", "capacity"]) =>
            {
                busy
            }
            // The model may have been drawing when the connection broke, so this is not "not ready".
            503 if any(&["connection termination", "connection reset"]) => self.interrupted(&message),
            503 => not_ready,
            502 if any(&[
                "connection refused",
                "no route to host",
                "no such host",
                "not ready",
                "connect timeout",
            ]) =>
            {
                not_ready
            }
            502 => self.interrupted(&message),
            404 if any(&["model"]) => Error::NoSuchModel { model: self.model.to_owned() },
            404 => self.bad_reply("nothing is at the configured path"),
            405 | 501 => self.bad_reply("it does not take V1 predictions at the configured path"),
            413 => Error::Rejected { parameter: None, message: "the request is too large for it".to_owned() },
            400 if !said.starts_with("prediction failed") => rejected(message),
            422 => rejected(message),
            400 | 500..=599 if blames_a_parameter(&said) => rejected(message),
            400 | 500..=599 => Error::Failed { message },
            _ => self.bad_reply(&message),
        }
    }

    /// What the answer says, in one line.
    fn message(&self) -> String {
        let text = String::from_utf8_lossy(self.body);
        let said = match serde_json::from_slice::<Value>(self.body) {
            Ok(Value::String(said)) => Some(one_line(&said)),
            Ok(json) => message_of(&json),
            Err(_) if text.trim_start().starts_with('<') => Some(one_line(html_title(&text))),
            Err(_) => Some(one_line(&text)),
        };
        said.filter(|said| !said.is_empty()).unwrap_or_else(|| self.status.to_string())
    }

    fn timed_out(&self) -> Error {
        let rounded = self.elapsed + Duration::from_millis(500);
        Error::TimedOut(Duration::from_secs(rounded.as_secs().max(1)))
    }

    fn interrupted(&self, message: &str) -> Error {
        Error::Interrupted(format!("{}: {message}", self.status).into())
    }

    fn bad_reply(&self, what: &str) -> Error {
        Error::BadReply {
            reason: format!(
                "status {}: {what}; ask the operator to check the predictor's address",
                self.status
            ),
        }
    }
}

/// The error that a message means whatever its status, if it is one of those.
pub(super) fn by_message(message: &str) -> Option<Error> {
    let said = message.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if any(&["out of memory", "outofmemory", "cublas_status_alloc_failed", "failed to allocate memory"]) {
        return Some(Error::OutOfMemory);
    }
    if let Some(parameter) = unexpected_keyword(message) {
        let message = format!("leave `{parameter}` out; this model does not take it");
        return Some(Error::Rejected { parameter: Some(parameter), message });
    }
    if any(&["model"]) && any(&["is not ready", "is loading", "still loading", "not yet loaded"]) {
        return Some(Error::NotReady { retry_after: None });
    }
    None
}

/// The message of an error object: KServe's `error`, FastAPI's `detail`, OpenAI's `error.message`.
pub(super) fn message_of(json: &Value) -> Option<String> {
    let said = ["error", "detail", "message"].iter().find_map(|&key| json.get(key))?;
    match said {
        Value::String(said) => Some(one_line(said)),
        Value::Array(list) => {
            let first = list.first()?;
            let said = first.get("msg").or_else(|| first.get("message"))?.as_str()?;
            let place = first.get("loc").and_then(Value::as_array).and_then(|loc| loc.last()?.as_str());
            Some(one_line(&place.map_or(said.to_owned(), |place| format!("{place}: {said}"))))
        }
        Value::Object(object) => object.get("message").and_then(Value::as_str).map(one_line),
        _ => None,
    }
}

/// Text without line breaks and control characters, cut to what a reader wants.
pub(super) fn one_line(text: &str) -> String {
    let clean = text.replace(|character: char| character.is_control(), " ");
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn rejected(message: String) -> Error {
    Error::Rejected { parameter: named_parameter(&message), message }
}

/// Python's `TypeError`: `f() got an unexpected keyword argument 'seed'`.
fn unexpected_keyword(message: &str) -> Option<String> {
    let (_, name) = message.split_once("unexpected keyword argument")?;
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    (1..=64).contains(&end).then(|| name[..end].to_owned())
}

/// Whether a failed prediction is one that other arguments would have avoided.
fn blames_a_parameter(said: &str) -> bool {
    let words =
        ["divisible", "must be", "has to be", "have to be", "should be", "expected", "invalid", "too large"];
    said.contains("divisible by")
        || words.iter().any(|word| said.contains(word)) && named_parameter(said).is_some()
}

/// The parameter that a message names; the prompt only if it names no other.
fn named_parameter(message: &str) -> Option<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = || message.split(|c| !is_word(c)).filter_map(Key::named);
    words().find(|&key| key != Key::Prompt).or_else(|| words().next()).map(|key| key.name().to_owned())
}

fn html_title(html: &str) -> &str {
    let title = html.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.map_or("an HTML page", |(title, _)| title)
}

#[cfg(test)]
mod tests;

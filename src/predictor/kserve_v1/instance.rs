//! The request's instance: which keys are sent, and which are left out.

use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::Request;

/// A key of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Prompt,
    NegativePrompt,
    Width,
    Height,
    NumInferenceSteps,
    GuidanceScale,
    Seed,
}

impl Key {
    const ALL: [Self; 7] = [
        Self::Prompt,
        Self::NegativePrompt,
        Self::Width,
        Self::Height,
        Self::NumInferenceSteps,
        Self::GuidanceScale,
        Self::Seed,
    ];

    /// The key of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Its name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::NegativePrompt => "negative_prompt",
            Self::Width => "width",
            Self::Height => "height",
            Self::NumInferenceSteps => "num_inference_steps",
            Self::GuidanceScale => "guidance_scale",
            Self::Seed => "seed",
        }
    }

    /// Whether the server fills it in: then a model that does not know it can do without. The
    /// others are there because somebody asked for them, and leaving them out would not be the
    /// image that was asked for.
    const fn has_default(self) -> bool {
        matches!(self, Self::Width | Self::Height | Self::NumInferenceSteps | Self::GuidanceScale)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Keys(u8);

impl Keys {
    pub(super) const fn contains(self, key: Key) -> bool {
        self.0 & key.bit() != 0
    }
}

/// The keys left out: those the configuration names, and those the model was seen to refuse,
/// remembered for the life of the process.
#[derive(Debug)]
pub(super) struct Omitted(AtomicU8);

impl Omitted {
    /// `names` are the ones never sent; `prompt` and names that are not keys do nothing there.
    pub(super) fn new(names: &[String]) -> Self {
        let keys = names.iter().filter_map(|name| Key::named(name)).filter(|&key| key != Key::Prompt);
        Self(AtomicU8::new(keys.fold(0, |omitted, key| omitted | key.bit())))
    }

    /// The keys left out now.
    pub(super) fn keys(&self) -> Keys {
        Keys(self.0.load(Ordering::Relaxed))
    }

    /// Learns that the model refused `key` in a request sent without `omitted`. Tells whether
    /// sending it once more, without the key, can help.
    pub(super) fn learn(&self, key: Key, omitted: Keys) -> bool {
        if !key.has_default() || omitted.contains(key) {
            return false;
        }
        self.0.fetch_or(key.bit(), Ordering::Relaxed);
        true
    }
}

/// The request's body. A key without a value is left out: `null` is passed on to the pipeline and
/// breaks some.
pub(super) fn body(request: &Request, omitted: Keys) -> Bytes {
    let instance: Map<String, Value> = Key::ALL
        .into_iter()
        .filter(|&key| !omitted.contains(key))
        .filter_map(|key| Some((key.name().to_owned(), value(request, key)?)))
        .collect();
    json!({ "instances": [instance] }).to_string().into()
}

fn value(request: &Request, key: Key) -> Option<Value> {
    Some(match key {
        Key::Prompt => request.prompt.as_str().into(),
        Key::NegativePrompt => request.negative_prompt.as_deref()?.into(),
        Key::Width => request.width.into(),
        Key::Height => request.height.into(),
        Key::NumInferenceSteps => request.num_inference_steps.into(),
        Key::GuidanceScale => request.guidance_scale.into(),
        Key::Seed => request.seed?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            prompt: "a fox".to_owned(),
            negative_prompt: None,
            width: 512,
            height: 256,
            num_inference_steps: 20,
            guidance_scale: 7.5,
            seed: None,
        }
    }

    fn sent(request: &Request, omitted: &Omitted) -> Value {
        let body: Value = serde_json::from_slice(&body(request, omitted.keys())).expect("JSON");
        body["instances"][0].clone()
    }

    #[test]
    fn body_without_optional_values_leaves_their_keys_out() {
        let expected = json!({"prompt": "a fox", "width": 512, "height": 256, "num_inference_steps": 20,
            "guidance_scale": 7.5});
        assert_eq!(sent(&request(), &Omitted::new(&[])), expected);
    }

    #[test]
    fn body_with_all_values_holds_them_but_the_omitted() {
        let request = Request { negative_prompt: Some("rain".to_owned()), seed: Some(u32::MAX), ..request() };
        let names = ["guidance_scale", "prompt", "nonsense"].map(str::to_owned);
        let expected = json!({"prompt": "a fox", "negative_prompt": "rain", "width": 512, "height": 256,
            "num_inference_steps": 20, "seed": 4_294_967_295_u64});
        assert_eq!(sent(&request, &Omitted::new(&names)), expected);
    }

    #[test]
    fn omitted_told_of_a_refused_default_leaves_it_out_from_then_on() {
        let omitted = Omitted::new(&[]);
        let before = omitted.keys();
        assert!(omitted.learn(Key::GuidanceScale, before));
        assert!(omitted.learn(Key::GuidanceScale, before), "another call sent it at the same time");
        assert!(!omitted.learn(Key::GuidanceScale, omitted.keys()), "it was not sent");
        assert_eq!(sent(&request(), &omitted).get("guidance_scale"), None);
    }

    #[test]
    fn omitted_told_of_a_refused_wish_keeps_sending_it() {
        let omitted = Omitted::new(&[]);
        for key in [Key::Prompt, Key::NegativePrompt, Key::Seed] {
            assert!(!omitted.learn(key, omitted.keys()), "{key:?}");
        }
        assert_eq!(omitted.keys(), Keys::default());
    }
}

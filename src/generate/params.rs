//! The arguments of `generate_image`: one table that validates, describes and documents them.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Text, with the number of characters (Unicode scalar values) allowed; no NUL.
    Text {
        /// At least this many.
        min_chars: usize,
        /// At most this many.
        max_chars: usize,
    },
    /// A whole number in a range, ends included.
    Integer {
        /// The least allowed.
        min: u32,
        /// The largest allowed.
        max: u32,
        /// It must be a multiple of this; 1 means any.
        multiple_of: u32,
    },
    /// A finite number in a range, ends included.
    Number {
        /// The least allowed.
        min: f64,
        /// The largest allowed.
        max: f64,
    },
}

/// One parameter of the tool.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when it is left out; `None` for one without a default.
    pub default: Option<f64>,
    /// Whether it must be given.
    pub required: bool,
    /// What it does, for a person or a model that fills it in.
    pub description: &'static str,
}

const SIDE: Kind = Kind::Integer { min: 64, max: 2048, multiple_of: 8 };

const PROMPT: Parameter = Parameter {
    name: "prompt",
    kind: Kind::Text { min_chars: 1, max_chars: 10_000 },
    default: None,
    required: true,
    description: "What to draw: subject, style, colours, light, composition",
};
const NEGATIVE_PROMPT: Parameter = Parameter {
    name: "negative_prompt",
    kind: Kind::Text { min_chars: 0, max_chars: 10_000 },
    default: None,
    required: false,
    description: "What to keep out of the image",
};
const WIDTH: Parameter = Parameter {
    name: "width",
    kind: SIDE,
    default: Some(512.0),
    required: false,
    description: "Width in pixels, a multiple of 8",
};
const HEIGHT: Parameter = Parameter {
    name: "height",
    kind: SIDE,
    default: Some(512.0),
    required: false,
    description: "Height in pixels, a multiple of 8",
};
const STEPS: Parameter = Parameter {
    name: "num_inference_steps",
    kind: Kind::Integer { min: 1, max: 200, multiple_of: 1 },
    default: Some(50.0),
    required: false,
    description: "Denoising steps: more take longer and add detail",
};
const GUIDANCE: Parameter = Parameter {
    name: "guidance_scale",
    kind: Kind::Number { min: 1.0, max: 20.0 },
    default: Some(7.5),
    required: false,
    description: "How closely to follow the prompt",
};
const SEED: Parameter = Parameter {
    name: "seed",
    kind: Kind::Integer { min: 0, max: u32::MAX, multiple_of: 1 },
    default: None,
    required: false,
    description: "Makes the same request give the same image, where the model takes a seed",
};

/// Every parameter, in the order in which they are documented.
pub const PARAMETERS: [Parameter; 7] = [PROMPT, NEGATIVE_PROMPT, WIDTH, HEIGHT, STEPS, GUIDANCE, SEED];

/// Unknown arguments told at most: a request may hold a hundred thousand.
const MAX_UNKNOWN_TOLD: usize = 8;

/// Validated arguments, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// What to draw.
    pub prompt: String,
    /// What to avoid.
    pub negative_prompt: Option<String>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// The caller's seed.
    pub seed: Option<u32>,
}

/// One argument that is not allowed: which, what it was, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The argument's name.
    pub field: String,
    /// What was given, as JSON, cut short; absent when nothing was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is allowed, in words.
    pub allowed: String,
}

impl FieldError {
    /// An error of a value that is not allowed, or, without one, of its absence.
    #[must_use]
    pub fn new(field: &str, value: Option<&Value>, allowed: impl Into<String>) -> Self {
        Self { field: cut(field, 64), value: value.map(shown), allowed: allowed.into() }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "`{}` is {value}; allowed: {}", self.field, self.allowed),
            None => write!(f, "`{}` is missing; expected: {}", self.field, self.allowed),
        }
    }
}

/// Arguments that are not allowed, all of them together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid arguments: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(". "))]
pub struct InvalidParams(pub Vec<FieldError>);

impl Params {
    /// Validates a JSON object of arguments. `null` counts as left out, as several clients send
    /// it for optional arguments.
    ///
    /// # Errors
    /// Every argument that is unknown, missing, of the wrong type or out of range.
    pub fn from_json(arguments: &Map<String, Value>) -> Result<Self, InvalidParams> {
        Self::from_json_beside(arguments, &[])
    }

    /// As [`from_json`](Self::from_json), where `others` are arguments of the door itself: known
    /// here, validated there.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_json_beside(arguments: &Map<String, Value>, others: &[&str]) -> Result<Self, InvalidParams> {
        let mut errors: Vec<_> = arguments
            .iter()
            .filter_map(|(name, value)| unknown(name, value, others))
            .take(MAX_UNKNOWN_TOLD)
            .collect();
        let mut check = Check { arguments, errors: &mut errors };
        let params = Self {
            prompt: check.text(&PROMPT).unwrap_or_default(),
            negative_prompt: check.text(&NEGATIVE_PROMPT).filter(|text| !text.is_empty()),
            width: check.integer(&WIDTH).unwrap_or_default(),
            height: check.integer(&HEIGHT).unwrap_or_default(),
            num_inference_steps: check.integer(&STEPS).unwrap_or_default(),
            guidance_scale: check.number(&GUIDANCE).unwrap_or_default(),
            seed: check.integer(&SEED),
        };
        if errors.is_empty() { Ok(params) } else { Err(InvalidParams(errors)) }
    }
}

/// The JSON Schema (2020-12) of the arguments.
#[must_use]
pub fn input_schema() -> Map<String, Value> {
    let properties: Map<_, _> =
        PARAMETERS.iter().map(|parameter| (parameter.name.to_owned(), parameter.schema())).collect();
    let required: Vec<_> = PARAMETERS.iter().filter(|p| p.required).map(|p| p.name).collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

impl Parameter {
    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text { min_chars, max_chars } => {
                json!({"type": "string", "minLength": min_chars, "maxLength": max_chars})
            }
            Kind::Integer { min, max, multiple_of: 1 } => {
                json!({"type": "integer", "minimum": min, "maximum": max})
            }
            Kind::Integer { min, max, multiple_of } => {
                json!({"type": "integer", "minimum": min, "maximum": max, "multipleOf": multiple_of})
            }
            Kind::Number { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
        };
        schema["description"] = self.description.into();
        if let Some(default) = self.default {
            schema["default"] = match self.kind {
                Kind::Integer { .. } => whole(default).into(),
                _ => default.into(),
            };
        }
        schema
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Text { min_chars: 0, max_chars } => {
                format!("text of up to {max_chars} characters, without NUL")
            }
            Kind::Text { min_chars, max_chars } => {
                format!("text of {min_chars} to {max_chars} characters, not blank, without NUL")
            }
            Kind::Integer { min, max, multiple_of: 1 } => format!("a whole number from {min} to {max}"),
            Kind::Integer { min, max, multiple_of } => {
                format!("a whole number from {min} to {max} that is a multiple of {multiple_of}")
            }
            Kind::Number { min, max } => format!("a number from {min:.1} to {max:.1}"),
        }
    }

    fn error(&self, value: Option<&Value>) -> FieldError {
        FieldError::new(self.name, value, self.allowed())
    }
}

struct Check<'a> {
    arguments: &'a Map<String, Value>,
    errors: &'a mut Vec<FieldError>,
}

impl Check<'_> {
    /// The argument if it is given and `accept` takes it; else its default.
    fn take<T>(&mut self, parameter: &Parameter, accept: impl Fn(&Value) -> Option<T>) -> Option<T> {
        match self.arguments.get(parameter.name).filter(|value| !value.is_null()) {
            Some(value) => {
                let taken = accept(value);
                if taken.is_none() {
                    self.errors.push(parameter.error(Some(value)));
                }
                taken
            }
            None if parameter.required => {
                self.errors.push(parameter.error(None));
                None
            }
            None => parameter.default.and_then(|default| accept(&default.into())),
        }
    }

    fn text(&mut self, parameter: &Parameter) -> Option<String> {
        self.take(parameter, |value| {
            let Kind::Text { min_chars, max_chars } = parameter.kind else { return None };
            let text = value.as_str()?;
            let fits = (min_chars..=max_chars).contains(&text.chars().take(max_chars + 1).count());
            let blank = min_chars > 0 && text.trim().is_empty();
            (fits && !blank && !text.contains('\0')).then(|| text.to_owned())
        })
    }

    fn integer(&mut self, parameter: &Parameter) -> Option<u32> {
        self.take(parameter, |value| {
            let Kind::Integer { min, max, multiple_of } = parameter.kind else { return None };
            // JSON has one kind of number: 512.0 is the integer 512 (JSON Schema 2020-12, 4.2.3).
            let number = match value.as_u64() {
                Some(number) => u32::try_from(number).ok()?,
                None => value.as_f64().and_then(exact)?,
            };
            ((min..=max).contains(&number) && number % multiple_of == 0).then_some(number)
        })
    }

    fn number(&mut self, parameter: &Parameter) -> Option<f64> {
        self.take(parameter, |value| {
            let Kind::Number { min, max } = parameter.kind else { return None };
            value.as_f64().filter(|number| (min..=max).contains(number))
        })
    }
}

fn unknown(name: &str, value: &Value, others: &[&str]) -> Option<FieldError> {
    let known = || PARAMETERS.iter().map(|parameter| parameter.name).chain(others.iter().copied());
    if known().any(|known| known == name) {
        return None;
    }
    let names: Vec<_> = known().collect();
    let allowed = format!("no such argument; the arguments are {}", names.join(", "));
    Some(FieldError::new(name, Some(value), allowed))
}

/// `number` as a `u32` if it is one exactly.
fn exact(number: f64) -> Option<u32> {
    let in_range = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    in_range.then(|| whole(number))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only whole numbers in u32's range come here"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// A value as an error shows it: JSON, on one line, not longer than a reader wants.
fn shown(value: &Value) -> String {
    cut(&value.to_string(), 80)
}

fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: Value) -> Result<Params, InvalidParams> {
        Params::from_json(arguments.as_object().expect("an object"))
    }

    fn fields(arguments: Value) -> Vec<String> {
        parse(arguments).expect_err("refused").0.into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn params_left_out_take_their_defaults() {
        let params = parse(json!({"prompt": "a fox", "seed": null})).expect("valid");
        assert_eq!((params.width, params.height, params.num_inference_steps), (512, 512, 50));
        assert_eq!(params.guidance_scale, 7.5);
        assert_eq!((params.seed, params.negative_prompt), (None, None));
    }

    #[test]
    fn params_at_the_ends_of_their_ranges_are_taken() {
        for (name, values) in [
            ("width", [json!(64), json!(2048)]),
            ("height", [json!(64.0), json!(2048)]),
            ("num_inference_steps", [json!(1), json!(200)]),
            ("guidance_scale", [json!(1), json!(20.0)]),
            ("seed", [json!(0), json!(4_294_967_295_u64)]),
            ("prompt", [json!("x"), json!("é".repeat(10_000))]),
        ] {
            for value in values {
                let mut arguments = json!({"prompt": "a fox"});
                arguments[name] = value.clone();
                assert!(parse(arguments).is_ok(), "{name} {value}");
            }
        }
    }

    #[test]
    fn params_out_of_range_are_refused_by_name() {
        for (name, value) in [
            ("width", json!(63)),
            ("width", json!(2056)),
            ("width", json!(100)),
            ("width", json!("512")),
            ("width", json!(512.5)),
            ("width", json!(-8)),
            ("height", json!(1e300)),
            ("height", json!(true)),
            ("num_inference_steps", json!(0)),
            ("num_inference_steps", json!(201)),
            ("guidance_scale", json!(0.99)),
            ("guidance_scale", json!(20.01)),
            ("guidance_scale", json!("7")),
            ("seed", json!(-1)),
            ("seed", json!(4_294_967_296_u64)),
            ("seed", json!([1])),
            ("prompt", json!("")),
            ("prompt", json!(" \n")),
            ("prompt", json!("a\0b")),
            ("prompt", json!("x".repeat(10_001))),
            ("prompt", json!(7)),
            ("negative_prompt", json!({})),
        ] {
            let mut arguments = json!({"prompt": "a fox"});
            arguments[name] = value.clone();
            assert_eq!(fields(arguments), [name], "{name} {value}");
        }
    }

    #[test]
    fn params_with_several_faults_are_told_together() {
        let error = parse(json!({"promt": "a fox", "width": 100})).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("`promt`") && text.contains("num_inference_steps"), "{text}");
        assert!(text.contains("`prompt` is missing"), "{text}");
        assert!(
            text.contains("`width` is 100; allowed: a whole number from 64 to 2048 that is a multiple of 8"),
            "{text}"
        );
    }

    #[test]
    fn params_that_are_unknown_are_told_up_to_a_limit() {
        let mut arguments = json!({"prompt": "a fox", "include_preview": false});
        (0..1_000).for_each(|i| arguments[format!("x{i}")] = i.into());
        let arguments = arguments.as_object().expect("an object");
        let error = Params::from_json_beside(arguments, &["include_preview"]).expect_err("refused");
        assert_eq!(error.0.len(), MAX_UNKNOWN_TOLD);
        assert!(error.0[0].allowed.ends_with("seed, include_preview"), "{}", error.0[0].allowed);
        assert!(error.0.iter().all(|e| e.field.starts_with('x')));
    }

    #[test]
    fn schema_agrees_with_the_validation() {
        let schema = input_schema();
        assert_eq!(schema["required"], json!(["prompt"]));
        assert_eq!(schema["properties"]["width"]["multipleOf"], 8);
        assert_eq!(schema["properties"]["num_inference_steps"]["default"], json!(50));
        assert_eq!(schema["properties"]["seed"]["maximum"], json!(4_294_967_295_u64));
    }
}

use std::sync::Mutex;
use std::time::Duration;

use image::{DynamicImage, ImageFormat};

use super::*;
use crate::predictor::progress_channel;

fn request(prompt: &str) -> Request {
    Request {
        prompt: prompt.to_owned(),
        negative_prompt: None,
        width: 64,
        height: 64,
        num_inference_steps: 12,
        guidance_scale: 7.5,
        seed: Some(7),
    }
}

fn png(request: &Request) -> Vec<u8> {
    let painted = paint(request, request.seed.unwrap_or(0), &|| true, &mut |_| {});
    painted.expect("it encodes").expect("it was wanted")
}

fn decoded(request: &Request) -> DynamicImage {
    image::load_from_memory_with_format(&png(request), ImageFormat::Png).expect("a PNG")
}

/// The mean of each channel, 0 to 255.
fn mean(request: &Request) -> [f64; 3] {
    let picture = decoded(request).to_rgb8();
    let count = f64::from(picture.width() * picture.height());
    picture
        .pixels()
        .fold([0.0; 3], |sum, pixel| std::array::from_fn(|k| sum[k] + f64::from(pixel.0[k]) / count))
}

fn brightness(prompt: &str) -> f64 {
    mean(&request(prompt)).iter().sum::<f64>() / 3.0
}

/// One prompt for each kind of picture.
const KINDS: [&str; 24] = [
    "mountains at sunset",
    "a mountain lake at dawn",
    "rolling hills with wildflowers and a tree in spring",
    "a lavender field",
    "desert dunes",
    "a stormy sea with lightning and a lighthouse at night",
    "a tropical beach with palm trees and a sailboat",
    "a misty pine forest in autumn",
    "a neon city in the rain at night",
    "saturn and a nebula",
    "a coral reef with fish and jellyfish",
    "abstract flow of silk",
    "paper cut waves",
    "red marble",
    "stained glass",
    "geometric bauhaus shapes",
    "northern lights over a frozen lake",
    "the milky way over a castle",
    "a fox, a cat, a wolf and a deer under a crescent moon",
    "hot air balloons and birds over a rainbow",
    "a cabin in the falling snow",
    "a foggy day in black and white",
    "quantum entanglement",
    "мечта 夢 🦄",
];

#[test]
fn paint_of_the_same_request_gives_the_same_bytes() {
    for prompt in KINDS {
        assert!(png(&request(prompt)) == png(&request(prompt)), "{prompt}");
    }
}

#[test]
fn paint_of_any_kind_gives_a_picture_that_is_not_flat() {
    for prompt in KINDS {
        let picture = decoded(&request(prompt)).to_luma8();
        let (low, high) =
            picture.iter().fold((255, 0), |(low, high), &level| (level.min(low), level.max(high)));
        assert!(high - low > 24, "{prompt}: {low} to {high}");
    }
}

#[test]
fn pixels_of_a_known_request_are_the_ones_of_every_platform() {
    let painted = |prompt| rng::hash(decoded(&request(prompt)).to_rgb8().as_raw());
    assert_eq!(
        [painted("a fox by a mountain lake at dawn"), painted("blue marble")],
        [10_434_286_223_097_596_838, 17_522_978_352_453_655_771]
    );
}

#[test]
fn paint_with_another_seed_or_prompt_gives_another_picture() {
    for prompt in KINDS {
        let seven = request(prompt);
        let eight = Request { seed: Some(8), ..seven.clone() };
        assert!(png(&seven) != png(&eight), "{prompt}");
    }
    let mut pictures: Vec<_> = KINDS.iter().map(|prompt| png(&request(prompt))).collect();
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), KINDS.len());
    assert_ne!(png(&request("quantum mechanics")), png(&request("quantum gravity")));
}

#[test]
fn paint_of_any_shape_has_that_shape() {
    for (width, height) in [(64, 64), (2048, 64), (64, 2048), (72, 64), (200, 136)] {
        for prompt in ["a fox by a lake", "a city at night", "underwater", "bauhaus", "saturn"] {
            let picture = decoded(&Request { width, height, num_inference_steps: 1, ..request(prompt) });
            assert_eq!((picture.width(), picture.height()), (width, height), "{prompt}");
        }
    }
}

#[test]
fn png_holds_nothing_but_the_picture() {
    let png = png(&request("a lake"));
    let mut at = 8;
    let mut chunks = Vec::new();
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        chunks.push(String::from_utf8_lossy(&png[at + 4..at + 8]).into_owned());
        at += length + 12;
    }
    chunks.dedup();
    assert_eq!(chunks, ["IHDR", "IDAT", "IEND"]);
}

#[test]
fn night_is_darker_than_noon() {
    for place in ["mountains", "the sea", "a forest", "hills", "desert dunes"] {
        let (night, noon) =
            (brightness(&format!("{place} at night")), brightness(&format!("{place} at noon")));
        assert!(night * 1.5 < noon, "{place}: {night} and {noon}");
    }
}

#[test]
fn colour_words_colour_the_picture() {
    for place in ["an abstract", "a sunset over the sea", "a nebula", "marble"] {
        let red = mean(&request(&format!("{place} in red")));
        let blue = mean(&request(&format!("{place} in blue")));
        assert!(red[0] / red[2] > 1.5 * blue[0] / blue[2], "{place}: {red:?} and {blue:?}");
    }
}

#[test]
fn colour_before_a_thing_colours_the_thing_alone() {
    let foxes =
        ["a red fox", "a blue fox"].map(|prompt| mean(&request(&format!("{prompt} in the snow at noon"))));
    assert!(foxes[0][0] > foxes[1][0] && foxes[0][2] < foxes[1][2]);
    assert!((foxes[0][1] - foxes[1][1]).abs() < 12.0, "the rest of the picture stays");
}

#[test]
fn monochrome_has_no_colour() {
    let picture = decoded(&request("black and white mountains at sunset")).to_rgb8();
    assert!(picture.pixels().all(|pixel| pixel.0[0].abs_diff(pixel.0[2]) <= 1));
}

#[test]
fn negative_prompt_takes_away_what_it_names() {
    let with = request("a full moon over the sea at night");
    let without = Request { negative_prompt: Some("moon, stars".to_owned()), ..with.clone() };
    let brightest = |request: &Request| decoded(request).to_luma8().iter().copied().max();
    assert!(brightest(&with) > Some(220));
    assert!(brightest(&without) < Some(120));
    let red = request("red abstract");
    let not_red = Request { negative_prompt: Some("red".to_owned()), ..red.clone() };
    let (red, not_red) = (mean(&red), mean(&not_red));
    assert!(not_red[0] / not_red[1] < 0.7 * red[0] / red[1], "{red:?} and {not_red:?}");
    let said = request("the sea at night without moon, no stars");
    assert!(brightest(&said) < Some(120));
}

#[test]
fn guidance_scale_makes_colours_stronger() {
    let spread = |guidance_scale| {
        let [r, g, b] = mean(&Request { guidance_scale, ..request("a purple sunset over the sea") });
        r.max(g).max(b) - r.min(g).min(b)
    };
    assert!(spread(1.0) < spread(7.5) && spread(7.5) < spread(20.0));
}

#[test]
fn more_steps_give_more_detail() {
    let detail = |num_inference_steps| {
        let picture =
            decoded(&Request { num_inference_steps, width: 128, height: 128, ..request("flowers") })
                .to_luma8();
        let raw = picture.as_raw();
        raw.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum::<u64>()
    };
    assert!(detail(1) < detail(8) && detail(8) < detail(60));
}

#[tokio::test]
async fn predict_reports_every_step_in_order() {
    for total in [1, 5, 200] {
        let request = Request { num_inference_steps: total, ..request("a lake") };
        let told = Mutex::new(Vec::new());
        paint(&request, 1, &|| true, &mut |step| told.lock().unwrap().push(step)).unwrap();
        assert_eq!(told.into_inner().unwrap(), (1..=total).collect::<Vec<_>>());

        let (progress, receiver) = progress_channel();
        Embedded::new().predict(&request, &progress).await.expect("it paints");
        let last = Progress::Drawing { step: f64::from(total), total, estimated: false };
        assert_eq!(*receiver.borrow(), last);
    }
}

#[tokio::test]
async fn predict_without_a_seed_tells_the_one_that_repeats_it() {
    let (progress, _receiver) = progress_channel();
    let unseeded = Request { seed: None, ..request("hills") };
    let first = Embedded::new().predict(&unseeded, &progress).await.expect("it paints");
    let seed = first.seed.expect("it tells its seed");
    let again = Embedded::new().predict(&Request { seed: Some(seed), ..unseeded }, &progress).await;
    let again = again.expect("it paints");
    assert_eq!((again.seed, again.image), (Some(seed), first.image));
    assert_eq!(again.model.as_deref(), Some("procedural-artist"));
}

#[tokio::test]
async fn predict_dropped_halfway_stops_painting() {
    let (progress, mut receiver) = progress_channel();
    let large = Request { width: 512, height: 512, num_inference_steps: 200, ..request("mountains") };
    let artist = Embedded::new();
    tokio::select! {
        _ = artist.predict(&large, &progress) => panic!("it cannot be done at the first step"),
        told = receiver.changed() => told.expect("it tells its first step"),
    }
    // The painting thread holds a sender too: when that is gone, painting has ended.
    drop(progress);
    let mut last = Progress::Starting;
    while receiver.changed().await.is_ok() {
        last = *receiver.borrow_and_update();
    }
    if let Progress::Drawing { step, .. } = last {
        assert!(step < 200.0, "it went on to the end");
    }
}

#[tokio::test]
async fn probe_and_describe_tell_what_it_is() {
    let artist = Embedded::new();
    assert_eq!(artist.probe().await, State::Ready);
    let description = artist.describe();
    assert_eq!((description.protocol, description.model.as_str()), ("embedded", "procedural-artist"));
    assert!(description.takes_seed && description.reports_steps && description.endpoint.is_none());
    tokio::time::timeout(Duration::from_secs(1), artist.probe()).await.expect("at once");
}

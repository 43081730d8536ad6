//! Draws one picture with the embedded predictor:
//! `cargo run --release --example draw -- "a lake at dawn" out.png [width height steps seed guidance negative]`.

use std::error::Error;
use std::time::Instant;

use mcp_image_server::predictor::embedded::Embedded;
use mcp_image_server::predictor::{Predictor, Request, progress_channel};

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a command for people")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments.next().ok_or("tell a prompt and a file")?;
    let file = arguments.next().ok_or("tell a file after the prompt")?;
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let request = Request {
        prompt,
        width: next("512").parse()?,
        height: next("512").parse()?,
        num_inference_steps: next("50").parse()?,
        seed: Some(next("1").parse()?),
        guidance_scale: next("7.5").parse()?,
        negative_prompt: Some(next("")).filter(|words| !words.is_empty()),
    };
    let (progress, _receiver) = progress_channel();
    let start = Instant::now();
    let prediction = Embedded::new().predict(&request, &progress).await?;
    eprintln!(
        "{:.0} ms, {} bytes: {}",
        start.elapsed().as_secs_f64() * 1e3,
        prediction.image.len(),
        request.prompt
    );
    std::fs::write(file, &prediction.image)?;
    Ok(())
}

use tokio::sync::watch;

/// Where a generation stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Waiting for a free place; `ahead` others come first.
    Queued {
        /// Generations that come first.
        ahead: usize,
    },
    /// The model is starting (a cold start), not yet drawing.
    Starting,
    /// Drawing.
    Drawing {
        /// Steps done, of `total`. A whole number when real.
        step: f64,
        /// Steps in all.
        total: u32,
        /// True when `step` is learned from past durations, not told by the model.
        estimated: bool,
    },
    /// The image is being checked and stored.
    Storing,
}

/// Tells how far a generation is; cheap, never waits, keeps only the latest word.
#[derive(Debug, Clone)]
pub struct ProgressSender(watch::Sender<Progress>);

/// Hears how far a generation is.
pub type ProgressReceiver = watch::Receiver<Progress>;

/// A channel for the progress of one generation.
#[must_use]
pub fn progress_channel() -> (ProgressSender, ProgressReceiver) {
    let (sender, receiver) = watch::channel(Progress::Queued { ahead: 0 });
    (ProgressSender(sender), receiver)
}

impl ProgressSender {
    /// Tells where the generation stands now.
    pub fn send(&self, progress: Progress) {
        self.0.send_replace(progress);
    }
}

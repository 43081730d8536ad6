use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Until it is known how much there is to do.
const COUNTING: &str = "{spinner} counting {pos}";
/// And then.
const WORKING: &str = "{msg} [{bar:40}] {pos}/{len} {eta} left";

/// How far a command is, on standard error where that is a terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Progress of unknown length; not shown if `quiet`.
    pub(super) fn counting(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        Self::style(&bar, COUNTING);
        Self(bar)
    }

    /// From now on: so much is to be done.
    pub(super) fn begin(&self, what: &'static str, length: u64) {
        self.0.set_message(what);
        self.0.set_position(0);
        self.0.set_length(length);
        Self::style(&self.0, WORKING);
        self.0.reset_eta();
    }

    /// One more.
    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// Writes something without the bar in between.
    pub(super) fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    fn style(bar: &ProgressBar, template: &str) {
        // The templates are ours; the default style is not worse than an end.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

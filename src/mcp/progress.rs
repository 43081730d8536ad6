//! From where a generation stands to progress notifications.
//!
//! The protocol demands that `progress` grows with each notification. So the stages of a generation
//! share one scale of 0 to 100, and a stage in which nothing is known to change creeps towards its
//! end without reaching it.

use std::{future::pending, pin::pin, time::Duration};

use tokio::time::{sleep, timeout};

use crate::generate::{Progress, ProgressReceiver};

/// Not more often than this: a client redraws for each one.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Not less often than this: idle timers of clients start anew with each one.
const MAX_INTERVAL: Duration = Duration::from_secs(8);
/// The end of the scale; reached by the result alone.
const TOTAL: f64 = 100.0;
/// The share of what is left of a stage that a repeated notification moves on.
const CREEP: f64 = 0.05;

/// One notification.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    /// How far, of `total`; larger than in the update before.
    pub progress: f64,
    /// The end of the scale.
    pub total: f64,
    /// What is going on, for a person.
    pub message: String,
}

/// Sends updates, the first one at once, until `stop` is done or `send` fails. What is being sent
/// when `stop` is done is still sent, so that nothing overtakes it.
pub(super) async fn report<F: Future<Output = bool>>(
    mut receiver: ProgressReceiver,
    stop: impl Future,
    mut send: impl FnMut(Update) -> F,
) {
    let mut stop = pin!(stop);
    let mut scale = Scale::default();
    loop {
        let stage = *receiver.borrow_and_update();
        if !send(scale.update(stage)).await {
            return;
        }
        let rest = async {
            sleep(MIN_INTERVAL).await;
            let _ = timeout(MAX_INTERVAL - MIN_INTERVAL, changed(&mut receiver)).await;
        };
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = rest => {}
        }
    }
}

/// Waits for another word; for ever if none can come.
async fn changed(receiver: &mut ProgressReceiver) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[derive(Debug, Default)]
struct Scale {
    last: Option<f64>,
}

impl Scale {
    fn update(&mut self, stage: Progress) -> Update {
        let (start, end) = place(stage);
        let progress = match self.last {
            Some(last) if start <= last => {
                let end = if end > last { end } else { TOTAL };
                (last + (end - last) * CREEP).max(last.next_up())
            }
            _ => start,
        };
        self.last = Some(progress);
        Update { progress, total: TOTAL, message: message(stage) }
    }
}

/// Where a stage begins on the scale, and what it may creep up to.
fn place(stage: Progress) -> (f64, f64) {
    match stage {
        Progress::Queued { .. } => (0.0, 4.0),
        Progress::Starting => (4.0, 8.0),
        Progress::Drawing { step, total, .. } => {
            let at = |step| 8.0 + 87.0 * share(step, total);
            (at(step), at(step + 1.0).max(at(step) + 0.1))
        }
        Progress::Storing => (96.0, TOTAL),
    }
}

fn message(stage: Progress) -> String {
    match stage {
        Progress::Queued { ahead: 0 } => "waiting, next in line".to_owned(),
        Progress::Queued { ahead } => format!("waiting, {ahead} ahead"),
        Progress::Starting => "the model is starting".to_owned(),
        Progress::Drawing { step, total, estimated: true } => {
            format!("drawing (estimate): about {:.0} %", 100.0 * share(step, total))
        }
        Progress::Drawing { step, total, estimated: false } => format!("drawing: step {step:.0} of {total}"),
        Progress::Storing => "storing".to_owned(),
    }
}

/// `step` of `total`, from 0 to 1 whatever they are.
fn share(step: f64, total: u32) -> f64 {
    let share = step / f64::from(total.max(1));
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use tokio::time::Instant;

    use super::*;
    use crate::generate::progress_channel;

    const fn drawing(step: f64, estimated: bool) -> Progress {
        Progress::Drawing { step, total: 50, estimated }
    }

    #[test]
    fn progress_grows_whatever_the_stages() {
        let mut scale = Scale::default();
        let stages = [
            Progress::Queued { ahead: 3 },
            Progress::Queued { ahead: 3 },
            Progress::Queued { ahead: 5 },
            Progress::Starting,
            Progress::Queued { ahead: 0 },
            drawing(0.0, false),
            drawing(50.0, false),
            drawing(1.0, false),
            drawing(f64::NAN, true),
            Progress::Drawing { step: 1e300, total: 0, estimated: true },
            Progress::Storing,
            Progress::Starting,
        ];
        let mut last = -1.0;
        for stage in stages.iter().chain([&Progress::Storing; 200]) {
            let update = scale.update(*stage);
            assert!(update.progress > last && update.progress < TOTAL, "{stage:?} {update:?} after {last}");
            last = update.progress;
        }
    }

    #[test]
    fn message_tells_the_stage() {
        for (stage, expected) in [
            (Progress::Queued { ahead: 0 }, "waiting, next in line"),
            (Progress::Queued { ahead: 3 }, "waiting, 3 ahead"),
            (Progress::Starting, "the model is starting"),
            (drawing(12.0, false), "drawing: step 12 of 50"),
            (drawing(20.0, true), "drawing (estimate): about 40 %"),
            (Progress::Storing, "storing"),
        ] {
            assert_eq!(message(stage), expected);
        }
    }

    /// Runs `report` for `seconds` with a sender that follows `script` (milliseconds, stage).
    async fn reported(script: &[(u64, Progress)], seconds: u64) -> Vec<(u128, String)> {
        let (sender, receiver) = progress_channel();
        let start = Instant::now();
        let mut seen = Vec::new();
        let record = |update: Update| {
            seen.push((start.elapsed().as_millis(), update.message));
            ready(true)
        };
        let play = async {
            for (at, stage) in script {
                tokio::time::sleep_until(start + Duration::from_millis(*at)).await;
                sender.send(*stage);
            }
        };
        tokio::join!(report(receiver, sleep(Duration::from_secs(seconds)), record), play);
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn report_keeps_only_the_latest_word_between_two_notifications() {
        let script: Vec<_> =
            (1..=50_u32).map(|i| (u64::from(i) * 10, drawing(f64::from(i), false))).collect();
        let seen = reported(&script, 2).await;
        let times: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 200, 400, 600]);
        assert_eq!(seen[3].1, "drawing: step 50 of 50");
    }

    #[tokio::test(start_paused = true)]
    async fn report_repeats_itself_while_nothing_changes() {
        let seen = reported(&[(20_000, Progress::Starting)], 31).await;
        let times: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 8_000, 16_000, 20_000, 28_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn report_ends_when_nobody_listens() {
        let (_sender, receiver) = progress_channel();
        report(receiver, pending::<()>(), |_| ready(false)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn report_finishes_what_it_is_sending_when_stopped() {
        let (_sender, receiver) = progress_channel();
        let sent = Cell::new(0);
        let slow = |_| async {
            sleep(Duration::from_secs(5)).await;
            sent.set(sent.get() + 1);
            true
        };
        report(receiver, ready(()), slow).await;
        assert_eq!(sent.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn report_goes_on_when_no_other_word_can_come() {
        let (sender, receiver) = progress_channel();
        drop(sender);
        let mut sent = 0;
        let count = |_| {
            sent += 1;
            ready(true)
        };
        report(receiver, sleep(Duration::from_secs(17)), count).await;
        assert_eq!(sent, 3);
    }
}

//! The work on one picture, cut into even steps.

use std::ops::Range;

use super::canvas::Canvas;
use super::maths::index;

/// A layer of the picture: `units` pieces of work (rows, columns, strokes) of about the same cost.
struct Stage<'a> {
    units: usize,
    cost: f32,
    paint: Paint<'a>,
}

/// Paints units of a layer.
type Paint<'a> = Box<dyn FnMut(&mut Canvas, Range<usize>) + 'a>;

/// The layers of a picture from the ground up.
#[derive(Default)]
pub(super) struct Plan<'a> {
    stages: Vec<Stage<'a>>,
}

/// Work is handed out in pieces of at most this many units, so that a cancelled picture stops soon.
const PIECE: usize = 32;

impl<'a> Plan<'a> {
    /// Adds a layer of `units` units, each costing about `cost` (in nanoseconds; only the proportions
    /// matter). The units are painted in order.
    pub(super) fn add(&mut self, units: usize, cost: f32, paint: impl FnMut(&mut Canvas, Range<usize>) + 'a) {
        if units > 0 {
            self.stages.push(Stage { units, cost: cost.max(1.0), paint: Box::new(paint) });
        }
    }

    /// Paints everything in `steps` steps of about the same work. `go_on` is told each step that is
    /// done; `is_wanted` is asked before each piece of work. False means that it was given up.
    pub(super) fn run(
        mut self,
        canvas: &mut Canvas,
        steps: u32,
        is_wanted: &dyn Fn() -> bool,
        done: &mut dyn FnMut(u32),
    ) -> bool {
        let total: f64 = self.stages.iter().map(|stage| stage.units as f64 * f64::from(stage.cost)).sum();
        let per_step = total / f64::from(steps);
        let mut spent = 0.0;
        let mut step = 0;
        for stage in &mut self.stages {
            let mut unit = 0;
            while unit < stage.units {
                if !is_wanted() {
                    return false;
                }
                let left = (f64::from(step + 1) * per_step - spent).max(0.0);
                #[expect(clippy::cast_possible_truncation, reason = "a share of a step, capped just below")]
                let share = index((left / f64::from(stage.cost)) as f32).clamp(1, PIECE);
                let end = (unit + share).min(stage.units);
                (stage.paint)(canvas, unit..end);
                spent += (end - unit) as f64 * f64::from(stage.cost);
                unit = end;
                while step + 1 < steps && spent >= f64::from(step + 1) * per_step - 1e-6 {
                    step += 1;
                    done(step);
                }
            }
        }
        while step < steps {
            step += 1;
            done(step);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn run_tells_every_step_once_in_order_and_paints_every_unit() {
        for (units, steps) in [(10, 50), (1000, 7), (33, 1), (0, 3)] {
            let painted = Cell::new(0);
            let mut plan = Plan::default();
            plan.add(units, 3.0, |_, range| {
                assert_eq!(range.start, painted.get());
                painted.set(range.end);
            });
            let mut told = Vec::new();
            assert!(plan.run(&mut Canvas::new(1, 1), steps, &|| true, &mut |step| told.push(step)));
            assert_eq!(told, (1..=steps).collect::<Vec<_>>());
            assert_eq!(painted.get(), units);
        }
    }

    #[test]
    fn run_spreads_the_work_evenly_over_the_steps() {
        let painted = Cell::new(0);
        let mut plan = Plan::default();
        plan.add(400, 1.0, |_, range| painted.set(painted.get() + range.len()));
        plan.add(100, 4.0, |_, range| painted.set(painted.get() + 4 * range.len()));
        let mut at_step = Vec::new();
        plan.run(&mut Canvas::new(1, 1), 10, &|| true, &mut |_| at_step.push(painted.get()));
        for (step, done) in at_step.iter().enumerate() {
            assert!(done.abs_diff((step + 1) * 80) <= 4, "{at_step:?}");
        }
    }

    #[test]
    fn run_no_longer_wanted_stops_within_the_step() {
        let painted = Cell::new(0);
        let mut plan = Plan::default();
        plan.add(1000, 1.0, |_, range| painted.set(range.end));
        let told = Cell::new(0);
        let finished = plan.run(&mut Canvas::new(1, 1), 20, &|| told.get() < 3, &mut |step| told.set(step));
        assert!(!finished);
        assert_eq!((told.get(), painted.get()), (3, 150));
    }
}

use layers::trace::TraceId;

/// Which traces are recorded, by the names of the OpenTelemetry specification (`OTEL_TRACES_SAMPLER`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// `always_on`.
    AlwaysOn,
    /// `always_off`.
    AlwaysOff,
    /// `traceidratio`: this part of them, told by their ids, so that all services choose the same.
    TraceIdRatio(f64),
    /// `parentbased_…`: the caller's choice, and without a caller that of this ratio (1 for `always_on`).
    ParentBased(f64),
}

impl Sampler {
    /// Whether a trace is recorded; `caller` is the caller's choice.
    pub(super) fn samples(self, trace_id: TraceId, caller: Option<bool>) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::TraceIdRatio(ratio) => within(trace_id, ratio),
            Self::ParentBased(ratio) => caller.unwrap_or_else(|| within(trace_id, ratio)),
        }
    }
}

/// As the SDKs have it: the lower half of the id, without its last bit, below the ratio's share of 2^63.
#[expect(clippy::cast_precision_loss, reason = "a ratio is not exact to 2^-53")]
fn within(trace_id: TraceId, ratio: f64) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
    let half = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    ratio >= 1.0 || (half as f64) < ratio * 9_223_372_036_854_775_808.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampler_follows_its_name_and_the_caller() {
        let (low, high) = (TraceId::from(1), TraceId::from(u128::from(u64::MAX)));
        for (sampler, without, with_yes, with_no) in [
            (Sampler::AlwaysOn, true, true, true),
            (Sampler::AlwaysOff, false, false, false),
            (Sampler::TraceIdRatio(1.0), true, true, true),
            (Sampler::TraceIdRatio(0.0), false, false, false),
            (Sampler::ParentBased(1.0), true, true, false),
            (Sampler::ParentBased(0.0), false, true, false),
        ] {
            for id in [low, high] {
                let got = [None, Some(true), Some(false)].map(|caller| sampler.samples(id, caller));
                assert_eq!(got, [without, with_yes, with_no], "{sampler:?} {id}");
            }
        }
        assert!(Sampler::TraceIdRatio(0.5).samples(low, None));
        assert!(!Sampler::ParentBased(0.5).samples(high, None));
    }

    #[test]
    fn ratio_takes_its_part_of_random_ids() {
        let ids = (0..10_000).map(|_| TraceId::from(rand::random::<u128>()));
        let taken = ids.filter(|id| Sampler::TraceIdRatio(0.25).samples(*id, None)).count();
        // Ten standard deviations around 2500.
        assert!((2_067..=2_933).contains(&taken), "{taken}");
    }
}

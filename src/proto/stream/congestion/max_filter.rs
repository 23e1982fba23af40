//! The maximum of what was seen lately, in constant time and space.

/// Best, second and third best sample of a window; each younger than the one before. An old
/// maximum that drops out is replaced by one that is nearly as good, never by nothing
/// (Kathleen Nichols's filter, as in BBR's draft).
#[derive(Debug, Clone)]
pub(super) struct MaxFilter {
    window: u64,
    best: [Sample; 3],
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: u64,
    value: u64,
}

impl MaxFilter {
    /// Looks back over `window` of whatever `at` counts.
    pub(super) fn new(window: u64) -> Self {
        Self { window, best: [Sample::default(); 3] }
    }

    pub(super) fn get(&self) -> u64 {
        self.best[0].value
    }

    pub(super) fn reset(&mut self, at: u64, value: u64) {
        self.best = [Sample { at, value }; 3];
    }

    pub(super) fn update(&mut self, at: u64, value: u64) {
        if value >= self.best[0].value || at - self.best[2].at > self.window {
            return self.reset(at, value);
        }
        let sample = Sample { at, value };
        if value >= self.best[1].value {
            self.best[1] = sample;
            self.best[2] = sample;
        } else if value >= self.best[2].value {
            self.best[2] = sample;
        }
        let age = at - self.best[0].at;
        if age > self.window {
            // The best has dropped out, and perhaps the second as well.
            self.best = [self.best[1], self.best[2], sample];
            if at - self.best[0].at > self.window {
                self.best = [self.best[1], self.best[2], sample];
            }
        } else if self.best[1].at == self.best[0].at && age > self.window / 4 {
            // A quarter of the window without a second best: take one from the second quarter.
            self.best[1] = sample;
            self.best[2] = sample;
        } else if self.best[2].at == self.best[1].at && age > self.window / 2 {
            self.best[2] = sample;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_lasts_for_the_window_and_then_gives_way_to_a_recent_one() {
        let mut filter = MaxFilter::new(10);
        filter.update(0, 100);
        for at in 1..=10 {
            filter.update(at, 50 + at);
            assert_eq!(filter.get(), 100);
        }
        filter.update(11, 40);
        assert!((55..=60).contains(&filter.get()), "{}", filter.get());
        filter.update(12, 70);
        assert_eq!(filter.get(), 70);
        filter.update(40, 5);
        assert_eq!(filter.get(), 5, "everything before is too old");
    }
}

//! When the probes of one path are sent: a few with growing pauses, until one is answered.

use std::time::{Duration, Instant};

/// Longest pause within a series.
const LONGEST: Duration = Duration::from_millis(1_600);

/// A series of probes of one path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Series {
    next: Option<Instant>,
    pause: Duration,
    sent: u8,
    most: u8,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    Probe,
    /// The last one was not answered in time.
    Over,
}

impl Series {
    /// Begins anew: at most `most` probes, the first at `at`, with pauses that double.
    pub(super) fn start(&mut self, at: Instant, pause: Duration, most: u8) {
        *self = Self { next: Some(at), pause, sent: 0, most };
    }

    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    pub(super) fn is_running(&self) -> bool {
        self.next.is_some()
    }

    /// Probes sent so far.
    pub(super) fn sent(&self) -> u8 {
        self.sent
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// What to do now; a probe counts as sent.
    pub(super) fn take_due(&mut self, now: Instant) -> Due {
        match self.next {
            Some(at) if at <= now => {}
            _ => return Due::Nothing,
        }
        if self.sent >= self.most {
            self.next = None;
            return Due::Over;
        }
        let pause = (self.pause * (1 << self.sent.min(8))).min(LONGEST.max(self.pause));
        self.sent += 1;
        self.next = Some(now + pause);
        Due::Probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_the_last_one_waits_for_its_answer() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut series = Series::default();
        series.start(start + ms(50), ms(100), 4);
        let mut sent = Vec::new();
        let end = loop {
            let now = series.next().unwrap();
            match series.take_due(now) {
                Due::Probe => sent.push((now - start).as_millis()),
                Due::Over => break now - start,
                Due::Nothing => unreachable!(),
            }
        };
        assert_eq!((sent, end), (vec![50, 150, 350, 750], ms(1_550)));
        assert!(!series.is_running());
        assert_eq!(series.take_due(start + ms(9_999)), Due::Nothing);
    }
}

//! How much of what we send is lost: what the peer says it received, against what we sent.

/// Frames in one measurement. Fewer would make one lost probe look like a bad path.
const WINDOW: u32 = 20;
/// The same of a path that lost some, and that only probes may go by.
const LOSSY_WINDOW: u32 = 10;
/// A path that loses this share of frames, again and again, is lossy..
const LOSSY_AT: f32 = 0.15;
/// ..until it loses less than this.
const CLEAN_AT: f32 = 0.05;

/// Loss on one path in our direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossMeter {
    /// Both counts when the present measurement began.
    since: Option<(u32, u32)>,
    loss: Option<f32>,
    /// Bad measurements in a row.
    bad: u8,
    is_lossy: bool,
}

impl LossMeter {
    /// When we had sent `sent` frames, the peer had received `received` of them.
    pub(super) fn sample(&mut self, sent: u32, received: u32) {
        let Some((from_sent, from_received)) = self.since else {
            self.since = Some((sent, received));
            return;
        };
        let (frames, arrived) =
            (sent.wrapping_sub(from_sent), received.wrapping_sub(from_received));
        if frames > u32::MAX / 2 || arrived > u32::MAX / 2 {
            // An answer overtook another, or the peer has begun to count anew.
            self.since = (arrived > u32::MAX / 2).then_some((sent, received)).or(self.since);
            return;
        }
        if frames < if self.is_in_doubt() { LOSSY_WINDOW } else { WINDOW } {
            return;
        }
        // Frames that overtook the probe make a little more than all.
        let lost = frames.saturating_sub(arrived) as f32 / frames as f32;
        let loss = self.loss.map_or(lost, |before| before.midpoint(lost));
        self.bad = if lost >= LOSSY_AT { self.bad.saturating_add(1) } else { 0 };
        let is_bad = self.bad > 1 && loss >= LOSSY_AT;
        self.is_lossy = if self.is_lossy { loss >= CLEAN_AT } else { is_bad };
        (self.loss, self.since) = (Some(loss), Some((sent, received)));
    }

    /// Share of frames lost of late, once there were enough.
    pub(super) fn loss(&self) -> Option<f32> {
        self.loss
    }

    /// Whether a clean path is better, however long.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// Whether it has lost enough for another to be taken: then it must be measured again.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_lossy || self.loss.is_some_and(|loss| loss >= CLEAN_AT)
    }

    /// The path was dead for a while: what was lost meanwhile does not count, and what was known
    /// does.
    pub(super) fn skip(&mut self) {
        self.since = None;
    }

    /// Nothing is known of the path any more: it carries segments of another size.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lossy_path_must_be_clean_for_some_time_to_count_as_clean() {
        let (mut meter, mut sent, mut received) = (LossMeter::default(), 0, 0);
        let mut run = |meter: &mut LossMeter, frames: u32, lost: u32| {
            sent += frames;
            received += frames - lost;
            meter.sample(sent, received);
        };
        run(&mut meter, 100, 40);
        assert_eq!(meter.loss(), None, "nothing to compare with");
        run(&mut meter, 100, 20);
        assert!(!meter.is_lossy() && meter.loss() == Some(0.2), "once is nothing");
        run(&mut meter, 100, 20);
        assert!(meter.is_lossy() && meter.loss() == Some(0.2));
        run(&mut meter, 100, 0);
        assert!(meter.is_lossy(), "10 % on average");
        run(&mut meter, 100, 0);
        run(&mut meter, 100, 0);
        assert!(!meter.is_lossy());
        run(&mut meter, 100, 12);
        assert!(!meter.is_lossy(), "not yet");
    }

    #[test]
    fn few_frames_and_strange_counts_say_nothing() {
        let mut meter = LossMeter::default();
        meter.sample(u32::MAX - 5, 7);
        meter.sample(3, 9);
        assert_eq!(meter.loss(), None, "nine frames are too few");
        meter.sample(20, 25);
        assert_eq!(meter.loss(), Some(8.0 / 26.0));
        meter.sample(40, 2);
        meter.sample(70, 32);
        assert_eq!(meter.loss(), Some(4.0 / 26.0), "the peer counts anew");
    }
}

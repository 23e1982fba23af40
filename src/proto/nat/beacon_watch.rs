//! When to ask the beacon where we are: often enough to keep the NAT's mapping, and, while there is
//! no answer, often enough to notice that the beacon is back.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

/// What NATs are taken to keep a mapping for until it is measured.
pub const ASSUMED_LIFETIME: Duration = Duration::from_secs(20);
/// The beacon believes strangers once a node was silent for 30 s, so nobody is silent that long.
const MAX_INTERVAL: Duration = Duration::from_secs(28);
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// A beacon that has not answered is asked again after this long...
const RETRY: Duration = Duration::from_secs(1);
/// ... and after this long, once it has missed [`SILENT_AFTER`] questions ...
const RETRY_SILENT: Duration = Duration::from_secs(2);
/// ... and after this long, once it has missed [`GONE_AFTER`].
const RETRY_GONE: Duration = Duration::from_secs(4);
const SILENT_AFTER: u32 = 3;
const GONE_AFTER: u32 = 150;

/// What an answer of the beacon means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is there, as before.
    Usual,
    /// It is there again: it may be another process, or we in another network.
    Returned,
}

/// See the [module](self).
#[derive(Debug)]
pub struct BeaconWatch {
    interval: Duration,
    /// When to ask next.
    due: Instant,
    /// Questions since the last answer.
    unanswered: u32,
}

impl BeaconWatch {
    /// Nothing was asked so far.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { interval: keepalive_interval(ASSUMED_LIFETIME), due: now, unanswered: 0 }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Whether the beacon has missed several questions in a row.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.unanswered >= SILENT_AFTER
    }

    /// Learns how long the NAT keeps a mapping that nobody uses.
    pub fn set_lifetime(&mut self, now: Instant, lifetime: Duration) {
        self.interval = keepalive_interval(lifetime);
        self.due = self.due.min(now + self.interval);
    }

    /// The network has changed: ask now, and be patient again.
    pub fn ask_now(&mut self, now: Instant) {
        self.due = now;
        self.unanswered = self.unanswered.min(SILENT_AFTER);
    }

    /// `true`: ask the beacon now.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) -> bool {
        if now < self.due {
            return false;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        let pause = match self.unanswered {
            GONE_AFTER.. => RETRY_GONE,
            SILENT_AFTER.. => RETRY_SILENT,
            _ => RETRY,
        };
        self.due = now + jittered(pause, rng);
        true
    }

    /// The beacon has answered, whoever asked.
    pub fn handle_answer(&mut self, now: Instant, rng: &mut impl Rng) -> Answer {
        let answer = if self.is_silent() { Answer::Returned } else { Answer::Usual };
        self.unanswered = 0;
        self.due = now + jittered(self.interval, rng);
        answer
    }
}

/// How often something must be sent to keep a mapping of this lifetime, with room for a loss.
#[must_use]
pub fn keepalive_interval(lifetime: Duration) -> Duration {
    (lifetime * 3 / 4).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// Between four fifths of `pause` and all of it: nodes that began together do not stay together.
fn jittered(pause: Duration, rng: &mut impl Rng) -> Duration {
    pause.mul_f64(rng.random_range(0.8..=1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn seconds(from: Instant, to: Instant) -> f64 {
        to.saturating_duration_since(from).as_secs_f64()
    }

    #[test]
    fn a_mapping_is_refreshed_well_within_its_lifetime() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut watch = BeaconWatch::new(start);
        assert!(watch.handle_timeout(start, &mut rng));
        for (lifetime, most) in [(None, 15.0), (Some(60), 28.0), (Some(10), 7.5), (Some(2), 5.0)] {
            if let Some(lifetime) = lifetime {
                watch.set_lifetime(start, Duration::from_secs(lifetime));
            }
            assert_eq!(watch.handle_answer(start, &mut rng), Answer::Usual);
            let pause = seconds(start, watch.poll_timeout());
            assert!((most * 0.79..=most + 0.01).contains(&pause), "{lifetime:?}: {pause}");
        }
    }

    #[test]
    fn a_beacon_that_returns_is_noticed_within_seconds_however_long_it_was_away() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(2));
        let mut watch = BeaconWatch::new(start);
        let (mut asked, mut longest) = (0, Duration::ZERO);
        let mut now = start;
        while now < start + Duration::from_secs(3_600) {
            let due = watch.poll_timeout();
            longest = longest.max(due.saturating_duration_since(now));
            now = due;
            asked += u32::from(watch.handle_timeout(now, &mut rng));
        }
        assert!(longest <= Duration::from_secs(4), "{longest:?}");
        assert!(asked < 1_300, "{asked} questions in an hour");
        assert_eq!(watch.handle_answer(now, &mut rng), Answer::Returned);
        assert_eq!(watch.handle_answer(now, &mut rng), Answer::Usual);
    }

    #[test]
    fn one_lost_answer_is_no_silence() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(3));
        let mut watch = BeaconWatch::new(start);
        assert!(watch.handle_timeout(start, &mut rng));
        let again = watch.poll_timeout();
        assert!(seconds(start, again) <= 1.0);
        assert!(!watch.handle_timeout(start, &mut rng));
        assert!(watch.handle_timeout(again, &mut rng));
        assert_eq!(watch.handle_answer(again, &mut rng), Answer::Usual);
    }
}

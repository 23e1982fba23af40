//! When we send our key (PILA), and how seldom.

use std::time::{Duration, Instant};

/// Pause before the first retransmission, doubled for each further one. A 1.18 peer swallows
/// identical frames within 250 ms, so it is a little more than that.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Within this time after an announcement of our own accord, a key exchange is its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Least time between two announcements because of the same key of the peer.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
/// The same while no frame has shown that our answer arrived.
const UNCONFIRMED_PAUSE: Duration = Duration::from_millis(200);

/// Why we announce our key again and again until something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There are no keys: until the peer's arrives.
    Start,
    /// We have a new key: until the peer uses it.
    Rekey,
}

/// Decides when to announce our key.
#[derive(Debug)]
pub(super) struct Announcer {
    retransmission: Option<Retransmission>,
    announce: bool,
    request: bool,
    last: Option<Instant>,
    answer_until: Option<Instant>,
    /// Answers to keys that are new to us.
    to_new_keys: RateLimit,
    /// Announcements because of frames that we cannot open.
    to_unknown_frames: RateLimit,
}

#[derive(Clone, Copy, Debug)]
struct Retransmission {
    reason: Reason,
    attempt: u32,
    next: Instant,
    give_up: Instant,
}

/// What a timeout of the announcer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing is due.
    Nothing,
    /// The key is announced once more.
    Again(Reason),
    /// The time is over.
    GaveUp(Reason),
}

impl Announcer {
    pub(super) fn new() -> Self {
        Self {
            retransmission: None,
            announce: false,
            request: false,
            last: None,
            answer_until: None,
            to_new_keys: RateLimit::new(Duration::from_secs(1), 4),
            to_unknown_frames: RateLimit::new(REPEAT_PAUSE, 1),
        }
    }

    /// Announces now and until [`Announcer::stop`], but no longer than `timeout`.
    pub(super) fn begin(&mut self, now: Instant, reason: Reason, timeout: Duration) {
        if self.retransmission.is_none_or(|r| r.reason != reason) {
            let (next, give_up) = (now + FIRST_PAUSE, now + timeout);
            self.retransmission = Some(Retransmission { reason, attempt: 0, next, give_up });
            self.announce_unasked(now);
        }
    }

    pub(super) fn stop(&mut self, reason: Reason) {
        if self.retransmission.is_some_and(|r| r.reason == reason) {
            self.retransmission = None;
            self.request = false;
        }
    }

    /// The peer has a key that is new to us, so it needs ours. Returns whether it gets it.
    pub(super) fn answer_new_key(&mut self, now: Instant) -> bool {
        self.answer_until = None;
        let allowed = self.to_new_keys.allow(now);
        self.announce |= allowed;
        allowed
    }

    /// The peer repeats a key that we know. That may be the answer to our own announcement, a
    /// copy, or a sign that our last answer was lost.
    ///
    /// To answer an answer would go on for ever on a path slower than the pauses.
    pub(super) fn answer_known_key(&mut self, now: Instant, last_opened: Option<Instant>) {
        if self.answer_until.take().is_some_and(|until| now < until) {
            return;
        }
        let pause = if last_opened.is_some() { REPEAT_PAUSE } else { UNCONFIRMED_PAUSE };
        let silent = last_opened.is_none_or(|at| at + REPEAT_PAUSE <= now);
        self.announce |= silent && self.is_past(now, pause);
    }

    /// The peer asks for our key.
    pub(super) fn answer_request(&mut self, now: Instant) {
        self.announce |= self.is_past(now, REPEAT_PAUSE);
    }

    /// A frame came that we cannot open: one of us has lost the key.
    pub(super) fn unknown_frame(&mut self, now: Instant) {
        if self.is_past(now, UNCONFIRMED_PAUSE) && self.to_unknown_frames.allow(now) {
            self.announce_unasked(now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Expired {
        let Some(r) = self.retransmission.as_mut() else { return Expired::Nothing };
        let reason = r.reason;
        if now >= r.give_up {
            self.retransmission = None;
            self.request = false;
            return Expired::GaveUp(reason);
        }
        if now < r.next {
            return Expired::Nothing;
        }
        r.attempt += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << r.attempt.min(8)).min(LONGEST_PAUSE);
        r.next = now + pause;
        // A 1.18 peer that has our key already stays silent when we repeat it, but always answers
        // a request.
        self.request |= reason == Reason::Start;
        self.announce_unasked(now);
        Expired::Again(reason)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retransmission.map(|r| r.next.min(r.give_up))
    }

    /// Whether to send the announcement now; counts it as sent.
    pub(super) fn take_announcement(&mut self, now: Instant) -> bool {
        let due = std::mem::take(&mut self.announce);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// Whether to send a request now; counts it as sent.
    pub(super) fn take_request(&mut self) -> bool {
        std::mem::take(&mut self.request)
    }

    fn announce_unasked(&mut self, now: Instant) {
        self.announce = true;
        self.answer_until = Some(now + ANSWER_WITHIN);
    }

    fn is_past(&self, now: Instant, pause: Duration) -> bool {
        self.last.is_none_or(|last| last + pause <= now)
    }
}

/// At most `burst` at once, and one per `interval` in the long run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    interval: Duration,
    burst: u32,
    /// When all of the burst is available again.
    full_at: Option<Instant>,
}

impl RateLimit {
    pub(super) const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, full_at: None }
    }

    /// Whether one more is allowed now; if so it counts.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.interval;
        let allowed = full_at <= now + self.interval * self.burst;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs the announcer's own timer and returns when it announces, in milliseconds.
    fn announcements(announcer: &mut Announcer, start: Instant) -> (Vec<u128>, Expired) {
        let mut sent = Vec::new();
        loop {
            let now = announcer.poll_timeout().map_or(start, |at| at);
            let expired = announcer.handle_timeout(now);
            if announcer.take_announcement(now) {
                sent.push((now - start).as_millis());
            }
            if let Expired::GaveUp(_) = expired {
                return (sent, expired);
            }
        }
    }

    #[test]
    fn a_start_is_repeated_with_growing_pauses_and_then_given_up() {
        let start = Instant::now();
        let mut announcer = Announcer::new();
        announcer.begin(start, Reason::Start, Duration::from_secs(20));
        assert!(announcer.take_announcement(start));
        let (sent, expired) = announcements(&mut announcer, start);
        assert_eq!(sent, [300, 900, 2100, 4500, 8500, 12500, 16500]);
        assert_eq!(expired, Expired::GaveUp(Reason::Start));
        assert_eq!(announcer.poll_timeout(), None);
    }

    #[test]
    fn an_answer_is_not_answered() {
        let start = Instant::now();
        let mut announcer = Announcer::new();
        announcer.begin(start, Reason::Start, Duration::from_secs(20));
        assert!(announcer.take_announcement(start));
        // Even when the path is so slow that the pauses have passed.
        announcer.answer_known_key(start + 2000 * MS, None);
        assert!(!announcer.take_announcement(start + 2000 * MS));
        // A second one is no answer any more.
        announcer.answer_known_key(start + 2300 * MS, None);
        assert!(announcer.take_announcement(start + 2300 * MS));
    }

    #[test]
    fn frames_that_do_not_open_cause_one_announcement_a_second() {
        let start = Instant::now();
        let mut announcer = Announcer::new();
        let sent = (0..5000u32).filter(|ms| {
            let now = start + MS * *ms;
            announcer.unknown_frame(now);
            announcer.take_announcement(now)
        });
        assert_eq!(sent.collect::<Vec<_>>(), [0, 1000, 2000, 3000, 4000]);
    }

    #[test]
    fn a_rate_limit_allows_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Duration::from_secs(1), 3);
        let allowed = (0..40u32).filter(|tenth| limit.allow(start + 100 * MS * *tenth));
        assert_eq!(allowed.collect::<Vec<_>>(), [0, 1, 2, 10, 20, 30]);
    }
}

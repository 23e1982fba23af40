//! One path to a native peer: what is known of it, and what may go there.

use std::time::{Duration, Instant};

use super::loss::LossMeter;
use super::series::Series;
use super::{PathState, Via};

/// Bytes that may go to an address that has not answered a probe, for each byte that came from it
/// (RFC 9000 s8.1).
const UNPROVEN_FACTOR: usize = 3;
/// Most of that at any time.
const MAX_UNPROVEN: usize = 64 * 1024;
/// Probes of one path whose answers count.
const REMEMBERED: usize = 4;
/// What a round trip is taken for before it was measured.
const UNKNOWN_RTT: Duration = Duration::from_millis(150);
/// What the relay costs others, expressed as time.
const RELAY_PENALTY: Duration = Duration::from_millis(100);
/// What a lossy path costs: more than any clean one.
const LOSSY_PENALTY: Duration = Duration::from_secs(2);
/// What loss costs below that: so much for all.
const LOSS_PENALTY: Duration = Duration::from_millis(500);
/// What IPv6 is worth: no NAT forgets it.
const IPV6_BONUS: Duration = Duration::from_millis(3);
/// How long an answer proves a path, when frames come another way.
const SURE: Duration = Duration::from_millis(500);
/// Counts of received frames begin elsewhere on each path. Else a peer whose address changed would
/// compare the count of the new path with that of the old one, and see loss where is none.
const COUNT_STEP: u32 = 0x2545_f491;
/// What was in flight when a path was silent for so long is taken for lost.
const OUTAGE: Duration = Duration::from_millis(300);
/// A path that came back from the dead must answer so often before it is chosen while another
/// works.
const RETURNING: u8 = 3;

/// Why we know an address. The more others can make us believe, the sooner it makes room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HintKind {
    /// A frame came from it.
    Heard,
    /// The beacon said so in a punch command, or punching guessed it.
    Punched,
    /// The peer itself said so.
    Told,
    /// The registry said so.
    Registry,
}

/// A probe that may still be answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u32,
    at: Instant,
    sent: u32,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct SinglePath {
    pub(super) via: Via,
    pub(super) kind: HintKind,
    pub(super) state: PathState,
    pub(super) srtt: Option<Duration>,
    pub(super) loss: LossMeter,
    pub(super) series: Series,
    /// Frames sent and received on it.
    sent: u32,
    received: u32,
    /// Bytes that may go there although nothing was ever answered from there.
    allowance: usize,
    /// It has answered a probe: it may be sent to.
    pub(super) is_proven: bool,
    pub(super) first_received: Option<Instant>,
    pub(super) last_received: Option<Instant>,
    pub(super) last_sent: Option<Instant>,
    pub(super) last_probe: Option<Instant>,
    pub(super) last_answer: Option<Instant>,
    /// The first frame since the last sign of life that should be answered.
    pub(super) unanswered_since: Option<Instant>,
    pub(super) suspect_since: Option<Instant>,
    /// When a frame that came another way last made us doubt it.
    doubted: Option<Instant>,
    /// It works again after some time: what was in flight there is lost.
    pub(super) has_recovered: bool,
    /// Answers that are missing before it counts as good again.
    returning: u8,
    asked: [Option<Asked>; REMEMBERED],
}

impl SinglePath {
    /// The `number`th of its peer.
    pub(super) fn new(via: Via, kind: HintKind, number: u32) -> Self {
        Self {
            via,
            kind,
            state: PathState::Unknown,
            srtt: None,
            loss: LossMeter::default(),
            series: Series::default(),
            sent: 0,
            received: number.wrapping_mul(COUNT_STEP),
            allowance: 0,
            is_proven: via == Via::Relay,
            first_received: None,
            last_received: None,
            last_sent: None,
            last_probe: None,
            last_answer: None,
            unanswered_since: None,
            suspect_since: None,
            doubted: None,
            has_recovered: false,
            returning: 0,
            asked: [None; REMEMBERED],
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.via == Via::Relay
    }

    pub(super) fn is_valid(&self) -> bool {
        self.state == PathState::Valid
    }

    /// Valid, not only for the first time after it was dead, and no probe waits for its answer for
    /// long.
    pub(super) fn is_settled(&self) -> bool {
        self.is_valid()
            && self.returning == 0
            && !(self.series.is_running() && self.series.sent() > 1)
    }

    /// It answered nothing for some time.
    fn was_down(&self, now: Instant) -> bool {
        self.state == PathState::Dead && self.is_proven
            || self.suspect_since.is_some_and(|at| now > at + OUTAGE)
    }

    /// How long an answer takes at most, usually.
    pub(super) fn patience(&self) -> Duration {
        self.srtt.unwrap_or(UNKNOWN_RTT) * 2 + Duration::from_millis(10)
    }

    /// Bytes that may go there now.
    pub(super) fn allowance(&self) -> usize {
        if self.is_proven { usize::MAX } else { self.allowance }
    }

    /// What it is worth: less is better.
    pub(super) fn score(&self) -> Duration {
        let mut score = self.srtt.unwrap_or(UNKNOWN_RTT);
        if self.loss.is_lossy() {
            score += LOSSY_PENALTY;
        } else if let Some(loss) = self.loss.loss() {
            score += LOSS_PENALTY.mul_f32(loss.clamp(0.0, 1.0));
        }
        match self.via {
            Via::Relay => score += RELAY_PENALTY,
            Via::Direct(to) if to.addr.is_ipv6() => score = score.saturating_sub(IPV6_BONUS),
            Via::Direct(_) => {}
        }
        score
    }

    pub(super) fn on_sent(&mut self, now: Instant, frames: u32, bytes: usize) {
        self.sent = self.sent.wrapping_add(frames);
        self.last_sent = Some(now);
        self.allowance = self.allowance.saturating_sub(bytes);
    }

    /// Something that a peer alone can make came from there; not a proof that the peer is there.
    pub(super) fn on_heard(&mut self, bytes: usize) {
        let more = bytes.saturating_mul(UNPROVEN_FACTOR);
        self.allowance = self.allowance.saturating_add(more).min(MAX_UNPROVEN);
    }

    /// An authentic frame came by it.
    pub(super) fn on_frame(&mut self, now: Instant, bytes: usize) {
        self.received = self.received.wrapping_add(1);
        self.first_received.get_or_insert(now);
        self.last_received = Some(now);
        self.unanswered_since = None;
        if !self.is_proven {
            self.on_heard(bytes);
            return;
        }
        match self.state {
            PathState::Suspect => self.revive(now),
            PathState::Unknown | PathState::Dead if self.is_relay() => self.revive(now),
            _ => {}
        }
    }

    /// It is in use here, but a frame of the peer came another way. If it was proved a moment ago,
    /// the peer just chooses differently; else it may have died for the peer, which is why.
    pub(super) fn on_frame_elsewhere(&mut self, now: Instant) {
        let is_heard = |at: Option<Instant>, within| at.is_some_and(|at| now < at + within);
        if is_heard(self.last_answer, SURE) {
            self.unanswered_since = None;
        }
        if self.is_valid()
            && !is_heard(self.last_received, self.patience())
            && !is_heard(self.doubted, SURE)
        {
            self.doubted = Some(now);
            self.doubt(now);
        }
    }

    /// Frames received on it so far.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// A probe goes out; returns how many frames were sent then, it included.
    pub(super) fn on_probe(&mut self, now: Instant, id: u32) -> u32 {
        self.last_probe = Some(now);
        let sent = self.sent.wrapping_add(1);
        self.asked.rotate_right(1);
        self.asked[0] = Some(Asked { id, at: now, sent });
        sent
    }

    /// A probe was answered, by this path; `false` if it is none of ours.
    pub(super) fn on_answer(&mut self, now: Instant, id: u32, received: u32) -> bool {
        let asked = self.asked.iter_mut().find(|asked| asked.is_some_and(|asked| asked.id == id));
        let Some(Asked { at, sent, .. }) = asked.and_then(Option::take) else { return false };
        let took = now.saturating_duration_since(at);
        self.srtt = Some(match self.srtt {
            Some(srtt) if self.state == PathState::Valid => (srtt * 3 + took) / 4,
            _ => took,
        });
        if self.was_down(now) {
            self.loss.skip();
        }
        self.loss.sample(sent, received);
        (self.is_proven, self.last_answer) = (true, Some(now));
        if self.returning > 0 {
            self.returning -= 1;
        }
        if self.returning == 0 || !self.series.is_running() {
            self.series.stop();
        }
        self.revive(now);
        true
    }

    fn revive(&mut self, now: Instant) {
        if self.state == PathState::Dead {
            self.returning = RETURNING - 1;
            self.series.start(
                now + Duration::from_millis(50),
                Duration::from_millis(50),
                RETURNING,
            );
        } else if self.returning == 0 {
            self.series.stop();
        }
        self.has_recovered |= self.was_down(now);
        self.state = PathState::Valid;
        self.unanswered_since = None;
        self.suspect_since = None;
    }

    /// It should have answered and has not: it is asked, or asked again. `urgent`: somebody waits.
    pub(super) fn doubt(&mut self, now: Instant) {
        if self.state == PathState::Valid {
            self.state = PathState::Suspect;
            self.suspect_since = Some(now);
        }
        self.probe(now, 5);
    }

    /// Begins to probe it, unless that is under way.
    pub(super) fn probe(&mut self, at: Instant, most: u8) {
        if self.series.is_running() && self.returning == 0 {
            return;
        }
        if matches!(self.state, PathState::Unknown | PathState::Dead) && !self.is_relay() {
            // Until it answers, it is what it was.
            self.state = if self.is_proven { PathState::Dead } else { PathState::Probing };
        }
        let least = Duration::from_millis(if self.is_proven { 40 } else { 100 });
        let pause = self.srtt.map_or(Duration::from_millis(100), |srtt| srtt.mul_f32(1.25));
        self.series.start(at, pause.clamp(least, Duration::from_millis(400)), most);
    }

    /// No probe of a series was answered.
    pub(super) fn give_up(&mut self) {
        self.returning = 0;
        self.unanswered_since = None;
        self.suspect_since = None;
        self.loss.skip();
        self.state = PathState::Dead;
    }
}

//! When which path is probed.
//!
//! | what | when |
//! |---|---|
//! | a new address | at once, then after 100, 200, 400 .. ms, six times |
//! | the path in use | every second while there is traffic; then so often that a NAT keeps it |
//! | other paths that work | every 15 s while the peer is used; four times a second while one of them loses frames |
//! | addresses that do not work | 1, 2, 5, 15 s after the first attempts, then every 60 s while the peer is used |
//! | everything | at once when the path in use is suspect; twice a second while nothing works at all |
//!
//! A peer that nobody has used for a minute costs nothing, unless a stream is open: then its path
//! is kept alive.

use std::time::{Duration, Instant};

use super::native::{FLOW, NativePaths};
use super::policy::Conditions;
use super::series::Due;
use super::single::SinglePath;
use super::{PathAction, PathState, Via};

/// Between two probes of a path that carries traffic.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// That long after the last frame there is traffic.
const HOT: Duration = Duration::from_secs(2);
/// That long after the last frame the peer is in use.
const IN_USE: Duration = Duration::from_secs(60);
/// Between two probes of a path that is compared with a lossy one.
const MEASURE: Duration = Duration::from_millis(250);
/// Between two probes of the relay, and of direct paths not in use.
const STANDBY: Duration = Duration::from_secs(15);
/// A flow that pauses for so long may have lost its path. At least.
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// Bounds on the wait for an answer to traffic before the path is suspect: more than any delayed
/// acknowledgement.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const UNKNOWN_WAIT: Duration = Duration::from_millis(300);
const DELAYED_ACK: Duration = Duration::from_millis(25);
/// Rounds of probes of what does not work, while something else does.
const ROUNDS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// Probes of an address in a round.
const ROUND_PROBES: u8 = 2;
/// While nothing works: so many short pauses, then so many longer ones.
const OUTAGE: [(u8, Duration); 3] = [
    (20, Duration::from_millis(500)),
    (40, Duration::from_secs(1)),
    (u8::MAX, Duration::from_secs(5)),
];
/// Direct paths that are probed then.
const OUTAGE_PATHS: usize = 4;
/// Times that the peer is told our candidates before it is used again.
const TELLINGS: u8 = 7;

impl NativePaths {
    /// Whether somebody needs the peer.
    pub(super) fn is_used(&self, now: Instant, conditions: &Conditions) -> bool {
        conditions.has_streams || self.used_at.is_some_and(|at| now < at + IN_USE)
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_on_good_path(&self) -> bool {
        self.active_path().is_some_and(|path| path.is_valid() && !path.is_relay())
    }

    fn is_outage(&self) -> bool {
        !self.paths.iter().any(SinglePath::is_valid)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn poll_timeout(&self, conditions: &Conditions) -> Option<Instant> {
        let of_path = |path: &SinglePath| {
            [path.series.next(), self.upkeep_at(path, conditions)].into_iter().flatten().min()
        };
        [
            self.paths.iter().filter_map(of_path).min(),
            self.suspect_at(),
            self.verdict_at(),
            self.silence_at(),
            self.round_due(conditions),
            self.tell_due(conditions),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due. Early and repeated calls are harmless.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        conditions: &Conditions,
        actions: &mut Vec<PathAction>,
    ) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.suspect_at()) {
            self.suspect(now, conditions, actions);
        }
        if is_due(self.silence_at()) {
            self.flow = 0;
            if let Some(active) = self.active.and_then(|via| self.find_mut(via)) {
                active.probe(now, 5);
            }
        }
        for index in 0..self.paths.len() {
            let due = self.paths.get(index).map(|path| self.upkeep_at(path, conditions));
            if let Some(path) = self.paths.get_mut(index)
                && is_due(due.flatten())
            {
                path.probe(now, 6);
            }
        }
        if is_due(self.round_due(conditions)) {
            self.next_round(now, conditions, actions);
        }
        self.run_series(now, conditions, actions);
        if is_due(self.tell_due(conditions)) {
            let pause = Duration::from_millis(200) * (1 << self.told.min(8));
            self.told += 1;
            self.tell_at = (self.told < TELLINGS).then_some(now + pause);
            actions.push(PathAction::Tell);
        }
        self.choose(now, conditions);
    }

    fn run_series(&mut self, now: Instant, conditions: &Conditions, actions: &mut Vec<PathAction>) {
        let mut is_suspect = false;
        for path in &mut self.paths {
            let is_allowed = match path.via {
                Via::Direct(to) => conditions.allows(to),
                Via::Relay => conditions.has_relay,
            };
            match path.series.take_due(now) {
                Due::Probe if is_allowed => {
                    is_suspect |=
                        path.series.sent() > 2 && path.is_valid() && self.active == Some(path.via);
                    actions.push(PathAction::Probe(path.via));
                }
                Due::Over => path.give_up(),
                Due::Probe | Due::Nothing => {}
            }
        }
        if is_suspect {
            self.suspect(now, conditions, actions);
        }
    }

    /// The path in use does not answer: it is asked, and so are all others. Perhaps our NAT has
    /// forgotten us, and the beacon needs to hear where we are now.
    fn suspect(&mut self, now: Instant, conditions: &Conditions, actions: &mut Vec<PathAction>) {
        let Some(active) = self.active else { return };
        for path in &mut self.paths {
            if path.via == active {
                path.unanswered_since = None;
                path.doubt(now);
            } else if path.is_valid() || path.is_relay() && conditions.has_relay {
                path.probe(now, 4);
            } else {
                path.probe(now, ROUND_PROBES);
            }
        }
        self.begin_rounds(now);
        actions.push(PathAction::Discover);
    }

    /// The rounds of probes begin anew.
    pub(super) fn begin_rounds(&mut self, now: Instant) {
        (self.round, self.round_at) = (0, Some(now + self.round_pause(0)));
    }

    fn round_pause(&self, round: u8) -> Duration {
        if self.is_outage() {
            let pause = OUTAGE.iter().find(|(rounds, _)| round < *rounds);
            return pause.map_or(STANDBY, |(_, pause)| *pause);
        }
        ROUNDS[usize::from(round).min(ROUNDS.len() - 1)]
    }

    fn next_round(&mut self, now: Instant, conditions: &Conditions, actions: &mut Vec<PathAction>) {
        if self.is_on_good_path() {
            self.round_at = None;
            return;
        }
        let is_outage = self.is_outage();
        if std::mem::replace(&mut self.was_outage, is_outage) && !is_outage {
            self.round = 0;
        }
        if is_outage {
            self.paths.sort_by_key(|path| {
                (!path.is_relay(), !path.is_proven, std::cmp::Reverse(path.last_received))
            });
        }
        let most = if is_outage { 1 + OUTAGE_PATHS } else { self.paths.len() };
        for path in self.paths.iter_mut().take(most) {
            if !path.is_valid() && (!path.is_relay() || conditions.has_relay) {
                path.probe(now, ROUND_PROBES);
            }
        }
        // Every second time our own word is what is missing at somebody's NAT.
        if conditions.has_direct && self.round.is_multiple_of(4) {
            actions.push(PathAction::Punch);
        }
        if is_outage && self.round % 4 == 1 {
            actions.push(PathAction::Discover);
        }
        self.round = self.round.saturating_add(1);
        self.round_at = Some(now + self.round_pause(self.round));
    }

    fn round_due(&self, conditions: &Conditions) -> Option<Instant> {
        let at = self.round_at?;
        let used = self.used_at?;
        let is_wanted = at < used + IN_USE || conditions.has_streams && self.is_outage();
        (is_wanted && (conditions.has_direct || self.is_outage())).then_some(at)
    }

    fn tell_due(&self, conditions: &Conditions) -> Option<Instant> {
        let at = self.tell_at?;
        let is_wanted =
            conditions.has_streams || self.used_at.is_some_and(|used| at < used + IN_USE);
        (self.is_proven && is_wanted && conditions.has_direct).then_some(at)
    }

    /// When silence makes the path in use suspect.
    fn suspect_at(&self) -> Option<Instant> {
        let active = self.active_path().filter(|path| path.state == PathState::Valid)?;
        let wait =
            active.srtt.map_or(UNKNOWN_WAIT, |srtt| (srtt * 2 + DELAYED_ACK).max(LEAST_WAIT));
        Some(active.unanswered_since? + wait)
    }

    /// When a suspect path has had its time, if another one has answered meanwhile.
    pub(super) fn verdict_at(&self) -> Option<Instant> {
        let active = self.active_path().filter(|path| path.state == PathState::Suspect)?;
        let since = active.suspect_since?;
        self.paths
            .iter()
            .any(|path| path.is_valid() && path.last_received >= Some(since))
            .then(|| since + active.patience())
    }

    /// When a flow that has stopped is asked about.
    fn silence_at(&self) -> Option<Instant> {
        if self.flow < FLOW {
            return None;
        }
        let srtt = self.active_path()?.srtt.unwrap_or_default();
        Some(self.last_received? + SILENCE.max(srtt * 3))
    }

    /// When a path that works is asked next.
    fn upkeep_at(&self, path: &SinglePath, conditions: &Conditions) -> Option<Instant> {
        let used = self.used_at?;
        if !path.is_valid() || path.series.is_running() {
            return None;
        }
        let is_active = self.active == Some(path.via);
        let last = path.last_probe.unwrap_or(used);
        let often = if self.paths.iter().any(|path| path.is_valid() && path.loss.is_in_doubt()) {
            MEASURE
        } else {
            HEARTBEAT
        };
        if (is_active || often == MEASURE) && last + often <= used + HOT {
            return Some(last + often);
        }
        let at = match path.via {
            Via::Relay => last + STANDBY,
            Via::Direct(_) if is_active => {
                path.last_sent.unwrap_or(last).max(last) + conditions.keepalive
            }
            Via::Direct(_) => last + STANDBY,
        };
        let is_kept = is_active && !path.is_relay() && conditions.has_streams;
        (is_kept || at < used + IN_USE).then_some(at)
    }
}

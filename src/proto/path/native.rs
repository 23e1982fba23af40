//! The paths to a peer of our own kind: the relay, and a bounded number of addresses.
//!
//! What comes in is here; when something is asked is in `upkeep`, which path is taken in `choose`.

use std::time::{Duration, Instant};

use super::policy::{self, Conditions};
use super::single::{HintKind, SinglePath};
use super::{Candidate, CandidateKind, PathReport, PathState, Remote, Via};

/// Paths of one peer, the relay included.
pub(super) const MAX_PATHS: usize = 12;
/// Probes of a new address.
const FIRST_PROBES: u8 = 6;
/// Probes of an address that a frame came from: no more than three bytes for each of the frame's,
/// which may be a copy with a forged source. The next frame from there brings more.
const HEARD_PROBES: u8 = 2;
/// Addresses that are begun later, so that the first to answer need not compete: local ones,
/// IPv6, all others.
const STAGGER: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(150)];
/// New addresses that frames come from, per second; each is probed.
const MOVES_PER_SECOND: u32 = 10;
/// Frames in a row, with pauses no longer than [`super::upkeep::SILENCE`], that make a flow.
pub(super) const FLOW: u32 = 10;
/// Addresses that a key exchange is sent to at once, while none is known to work.
const MAX_EXCHANGE_COPIES: usize = 4;
/// Probes without an answer, while other frames come, that show a peer of another kind.
const IGNORED: u8 = 8;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct NativePaths {
    /// The relay is the first.
    pub(super) paths: Vec<SinglePath>,
    /// Addresses so far.
    made: u32,
    pub(super) active: Option<Via>,
    pub(super) active_since: Option<Instant>,
    /// Where a key exchange came from last: our side of it goes there.
    pub(super) answer_to: Option<Remote>,
    pub(super) relay_only: bool,
    /// The peer has spoken of paths, so it is of our kind.
    pub(super) is_proven: bool,
    /// Probes since it spoke last, while it did not.
    ignored: u8,
    /// The last frame of somebody who uses the peer, in either direction.
    pub(super) used_at: Option<Instant>,
    pub(super) last_received: Option<Instant>,
    /// Frames in a row.
    pub(super) flow: u32,
    /// The next round of probes of addresses that do not work, and how many there were.
    pub(super) round_at: Option<Instant>,
    pub(super) round: u8,
    /// Nothing worked at the last one: those rounds are counted apart.
    pub(super) was_outage: bool,
    /// When the peer is to be told our candidates.
    pub(super) tell_at: Option<Instant>,
    pub(super) told: u8,
    /// The last list of candidates that it has told us.
    list: Option<u32>,
    moves: (Option<Instant>, u32),
    /// The last path died: what was in flight is lost.
    pub(super) has_lost: bool,
}

impl NativePaths {
    pub(super) fn new() -> Self {
        Self {
            paths: vec![SinglePath::new(Via::Relay, HintKind::Registry, 0)],
            made: 0,
            active: None,
            active_since: None,
            answer_to: None,
            relay_only: false,
            is_proven: false,
            ignored: 0,
            used_at: None,
            last_received: None,
            flow: 0,
            round_at: None,
            round: 0,
            was_outage: false,
            tell_at: None,
            told: 0,
            list: None,
            moves: (None, 0),
            has_lost: false,
        }
    }

    pub(super) fn find(&self, via: Via) -> Option<&SinglePath> {
        self.paths.iter().find(|path| path.via == via)
    }

    pub(super) fn find_mut(&mut self, via: Via) -> Option<&mut SinglePath> {
        self.paths.iter_mut().find(|path| path.via == via)
    }

    pub(super) fn active_path(&self) -> Option<&SinglePath> {
        self.find(self.active?)
    }

    /// Notes an address to try; it is probed from `at` on if that is given. One that works, or is
    /// being tried, is left alone.
    pub(super) fn hint(
        &mut self,
        at: Option<Instant>,
        remote: Remote,
        kind: HintKind,
        conditions: &Conditions,
    ) {
        if !conditions.allows(remote) || !policy::is_usable(remote.addr) {
            return;
        }
        let Some(path) = self.find_or_add(remote, kind) else { return };
        path.kind = path.kind.max(kind);
        if let Some(at) = at
            && matches!(path.state, PathState::Unknown | PathState::Dead)
        {
            path.probe(at, FIRST_PROBES);
        }
    }

    /// The peer has told its candidates; an older list than the last is ignored.
    pub(super) fn on_candidates(
        &mut self,
        now: Instant,
        number: u32,
        candidates: &[Candidate],
        conditions: &Conditions,
    ) {
        self.on_spoken();
        if self.list.is_some_and(|last| number.wrapping_sub(last) > u32::MAX / 2) {
            return;
        }
        self.list = Some(number);
        // What only this host itself can reach is of use only if the registry says so, too.
        let is_here = self
            .paths
            .iter()
            .any(|path| matches!(path.via, Via::Direct(to) if to.addr.ip().is_loopback()));
        let group = |candidate: &Candidate| match candidate.addr {
            addr if policy::is_local(addr.ip()) => 0,
            addr if addr.is_ipv6() => 1,
            _ => 2,
        };
        let mut candidates: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| is_here || !candidate.addr.ip().is_loopback())
            .collect();
        candidates.sort_by_key(|candidate| group(candidate));
        let mut groups: Vec<usize> = candidates.iter().map(|candidate| group(candidate)).collect();
        groups.dedup();
        for candidate in candidates {
            let rank = groups.iter().position(|of| *of == group(candidate)).unwrap_or(0);
            let delay = STAGGER.get(rank).copied().unwrap_or_default();
            let kind = match candidate.kind {
                CandidateKind::Host | CandidateKind::Observed => HintKind::Told,
                CandidateKind::Mapped | CandidateKind::Configured => HintKind::Registry,
            };
            self.hint(Some(now + delay), candidate.addr.into(), kind, conditions);
        }
        self.begin_rounds(now);
    }

    /// Keys are agreed: everything that is known is tried.
    pub(super) fn on_established(&mut self, now: Instant, conditions: &Conditions) {
        (self.is_proven, self.ignored, self.list) = (false, 0, None);
        self.used_at = Some(now);
        for path in &mut self.paths {
            let is_allowed = match path.via {
                Via::Direct(to) => conditions.allows(to),
                Via::Relay => conditions.has_relay,
            };
            if is_allowed {
                path.probe(now, FIRST_PROBES);
            }
        }
        self.begin_rounds(now);
        self.choose(now, conditions);
    }

    /// Our side of a key exchange is wanted at `from`. What it says is signed, but it may be old.
    pub(super) fn on_exchange(&mut self, from: Remote, bytes: usize, conditions: &Conditions) {
        if !conditions.allows(from) {
            return;
        }
        self.answer_to = Some(from);
        if let Some(path) = self.find_or_add(from, HintKind::Heard) {
            path.on_heard(bytes);
        }
    }

    /// An authenticated frame has come.
    pub(super) fn on_authenticated(
        &mut self,
        now: Instant,
        via: Via,
        bytes: usize,
        conditions: &Conditions,
    ) {
        let silence = self.last_received.map(|at| now.saturating_duration_since(at));
        self.flow = match silence {
            Some(silence) if silence < super::upkeep::SILENCE => self.flow.saturating_add(1),
            _ => 0,
        };
        self.last_received = Some(now);
        self.answer_to = None;
        if let Via::Direct(from) = via {
            self.on_direct_frame(now, from, conditions);
        }
        if let Some(path) = self.find_mut(via) {
            path.on_frame(now, bytes);
        }
        if let Some(active) = self.active.filter(|active| *active != via)
            && let Some(active) = self.find_mut(active)
        {
            active.on_frame_elsewhere(now);
        }
        if self.active != Some(via) {
            self.choose(now, conditions);
        }
    }

    /// A frame came directly: perhaps from where the peer never was before.
    fn on_direct_frame(&mut self, now: Instant, from: Remote, conditions: &Conditions) {
        if !conditions.allows(from) {
            return;
        }
        let via = Via::Direct(from);
        let needs_proof = self.find(via).is_none_or(|path| {
            matches!(path.state, PathState::Unknown | PathState::Dead) && !path.series.is_running()
        });
        if !needs_proof || !self.may_move(now) {
            return;
        }
        let Some(path) = self.find_or_add(from, HintKind::Heard) else { return };
        path.probe(now, HEARD_PROBES);
        // If it has moved, the path in use does not answer any more.
        if let Some(active) = self.active.filter(|active| *active != via && *active != Via::Relay)
            && let Some(active) = self.find_mut(active)
        {
            active.probe(now, 5);
        }
    }

    /// Frames of `bytes` altogether went out.
    pub(super) fn on_sent(&mut self, now: Instant, via: Via, frames: u32, bytes: usize) {
        if let Some(path) = self.find_mut(via) {
            path.on_sent(now, frames, bytes);
        }
    }

    /// Somebody uses the peer; `is_question` if an answer must come.
    pub(super) fn on_used(&mut self, now: Instant, via: Via, is_question: bool) {
        self.used_at = Some(now);
        if let Some(path) = self.find_mut(via).filter(|_| is_question) {
            path.unanswered_since.get_or_insert(now);
        }
        if self.round_at.is_none() && !self.is_on_good_path() {
            self.begin_rounds(now);
        }
    }

    /// A probe goes out; returns the count that it carries.
    pub(super) fn on_probe(&mut self, now: Instant, via: Via, id: u32) -> u32 {
        if !self.is_proven {
            self.ignored = self.ignored.saturating_add(1);
        }
        self.find_mut(via).map_or(0, |path| path.on_probe(now, id))
    }

    /// A probe came; returns the count for the answer.
    pub(super) fn on_probed(&mut self, via: Via) -> u32 {
        self.on_spoken();
        self.find(via).map_or(0, SinglePath::received)
    }

    /// A probe was answered; returns whether it was one of ours.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        via: Via,
        (id, received): (u32, u32),
        conditions: &Conditions,
    ) -> bool {
        self.on_spoken();
        let Some(path) = self.find_mut(via) else { return false };
        let is_ours = path.on_answer(now, id, received);
        if is_ours {
            self.choose(now, conditions);
        }
        is_ours
    }

    /// A stream's retransmission timer has gone off: perhaps the path is dead in one direction.
    pub(super) fn on_stall(&mut self, now: Instant) {
        let Some(active) = self.active.and_then(|via| self.find_mut(via)) else { return };
        let is_proven = active
            .last_answer
            .is_some_and(|at| now.saturating_duration_since(at) < active.patience());
        if !is_proven {
            active.probe(now, 5);
        }
    }

    /// Addresses here have changed, or we slept.
    pub(super) fn on_network_change(&mut self, now: Instant, conditions: &Conditions) {
        self.tell(now);
        if !self.is_used(now, conditions) {
            // With the next frame the relay is first.
            for path in &mut self.paths {
                (path.last_received, path.last_answer) = (None, None);
            }
            return;
        }
        for path in &mut self.paths {
            if path.is_valid() {
                path.state = PathState::Suspect;
                path.suspect_since = Some(now);
            }
            path.series.stop();
            path.probe(now, FIRST_PROBES);
        }
        self.begin_rounds(now);
    }

    /// What was in flight is lost: the path that was left was dead, or the one in use has been.
    pub(super) fn take_lost(&mut self) -> bool {
        let active = self.active.and_then(|via| self.find_mut(via));
        let has_recovered = active.is_some_and(|path| std::mem::take(&mut path.has_recovered));
        std::mem::take(&mut self.has_lost) || has_recovered
    }

    /// The best path that is not in use.
    pub(super) fn second(&self) -> Option<Via> {
        let others = self.paths.iter().filter(|path| Some(path.via) != self.active);
        others.filter(|path| path.is_valid()).min_by_key(|path| path.score()).map(|path| path.via)
    }

    /// Tells the peer our candidates, if it is in use, and else when it is used again.
    pub(super) fn tell(&mut self, now: Instant) {
        (self.tell_at, self.told) = (Some(now), 0);
    }

    /// It has them.
    pub(super) fn on_told(&mut self) {
        self.on_spoken();
        self.tell_at = None;
    }

    /// The peer has spoken of paths.
    fn on_spoken(&mut self) {
        (self.is_proven, self.ignored) = (true, 0);
    }

    /// It sends frames, but ignores whatever we ask: it is of another kind.
    pub(super) fn is_foreign(&self) -> bool {
        !self.is_proven
            && self.ignored >= IGNORED
            && self.paths.iter().any(|path| path.last_probe < path.last_received)
    }

    /// Where a frame of the key exchange goes, and whether to ask for a punch.
    pub(super) fn exchange_targets(&self, may_copy: bool, has_relay: bool) -> (Vec<Via>, bool) {
        let mut targets: Vec<Via> = self.answer_to.map(Via::Direct).into_iter().collect();
        let works = self.active_path().filter(|path| path.is_valid());
        if !may_copy {
            if targets.is_empty() {
                let first = self.paths.iter().find(|path| !path.is_relay());
                targets.extend(self.active.or(first.map(|path| path.via)));
            }
            return (targets, false);
        }
        if let Some(active) = works {
            targets.push(active.via);
        } else {
            let mut known: Vec<&SinglePath> =
                self.paths.iter().filter(|path| !path.is_relay()).collect();
            known.sort_by_key(|path| std::cmp::Reverse((path.last_received, path.kind)));
            targets.extend(known.iter().take(MAX_EXCHANGE_COPIES).map(|path| path.via));
            if has_relay && !self.paths.is_empty() {
                targets.push(Via::Relay);
            }
        }
        let mut seen = Vec::new();
        targets.retain(|via| {
            let is_new = !seen.contains(via);
            seen.push(*via);
            is_new
        });
        (targets, works.is_none() && has_relay)
    }

    /// Drops what may not be used any more. Another path is chosen with the next frame.
    pub(super) fn apply(&mut self, conditions: &Conditions) {
        self.paths.retain(|path| match path.via {
            Via::Direct(to) => conditions.allows(to),
            Via::Relay => true,
        });
        self.active = self.active.filter(|active| match active {
            Via::Direct(to) => conditions.allows(*to),
            Via::Relay => conditions.has_relay,
        });
        (self.tell_at, self.told) = (self.used_at, 0);
    }

    pub(super) fn report(&self) -> Vec<PathReport> {
        let mut reports: Vec<PathReport> = self
            .paths
            .iter()
            .map(|path| PathReport {
                via: path.via,
                state: path.state,
                rtt: path.srtt,
                loss: path.loss.loss(),
                mtu: None,
                is_active: self.active == Some(path.via),
                last_received: path.last_received,
            })
            .collect();
        reports.sort_by_key(|report| !report.is_active);
        reports
    }

    /// The entry of an address; a new one takes the place of what is least useful, if it must.
    fn find_or_add(&mut self, remote: Remote, kind: HintKind) -> Option<&mut SinglePath> {
        let via = Via::Direct(remote);
        if let Some(index) = self.paths.iter().position(|path| path.via == via) {
            return self.paths.get_mut(index);
        }
        if self.paths.len() >= MAX_PATHS {
            let (index, least) = self
                .paths
                .iter()
                .enumerate()
                .filter(|(_, path)| !path.is_relay() && self.active != Some(path.via))
                .filter(|(_, path)| !path.is_valid() && path.state != PathState::Suspect)
                .min_by_key(|(_, path)| {
                    (path.state != PathState::Dead, path.is_proven, path.kind, path.last_received)
                })?;
            if least.kind > kind && least.state != PathState::Dead {
                return None;
            }
            self.paths.swap_remove(index);
        }
        self.made = self.made.wrapping_add(1);
        self.paths.push(SinglePath::new(via, kind, self.made));
        self.paths.last_mut()
    }

    /// Not too often: each new address is probed.
    fn may_move(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.moves;
        match *since {
            Some(at) if now < at + Duration::from_secs(1) => {
                *count += 1;
                *count <= MOVES_PER_SECOND
            }
            _ => {
                (*since, *count) = (Some(now), 1);
                true
            }
        }
    }
}

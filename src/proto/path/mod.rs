//! Where to send a peer's frames: straight to one of its UDP addresses, or through the beacon's
//! relay.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | [`PathSet`]: all paths to one peer |
//! | `native.rs`, `upkeep.rs`, `choose.rs` | to a peer of our kind: what comes in; when what is probed; which path is taken |
//! | `single.rs`, `series.rs`, `loss.rs` | one of those paths: its state, its probes, its loss |
//! | `foreign.rs` | the rule for Go nodes |
//! | `wire.rs` | probes and candidates on the wire |
//! | `policy.rs` | what the user wants |
//!
//! # Rules
//! - *Work first, improve later.* The first frames go by what works now, which is usually the relay;
//!   every address that is known is probed at the same time.
//! - *Proof before data.* What the registry, a punch command or an unverified source address says
//!   is a hint. To an address that has not answered a probe (which carries an unpredictable number)
//!   go probes, key exchanges, and at most three bytes for each that came from there.
//! - *Frames do not move paths, answers do.* An authentic frame from a new address makes us probe it,
//!   and the old one; so who copies a frame and sends it from elsewhere achieves nothing. While the
//!   peer speaks from the new address and not from the old one, the new one is taken with its first
//!   answer, one round trip later.
//! - *Silence after a question makes a path suspect*, after two round trips, or 100 ms. Then all paths
//!   are asked at once. The first other one that answers is taken if the suspect does not
//!   within its usual time. Any frame by a suspect path clears it.
//! - *Each end chooses for itself*, by the round trip (which both measure) and the loss in its own
//!   direction. Frames are taken from every path at any time, so that the ends may differ, and no
//!   moment of change needs to be agreed on.
//! - *Nothing is for ever.* Every series of probes ends, every round waits longer than the last, and
//!   nobody probes for a peer that is not used.

mod candidate;
mod choose;
mod foreign;
mod loss;
mod native;
mod policy;
mod remote;
mod report;
mod series;
mod single;
mod upkeep;
pub mod wire;

use std::time::{Duration, Instant};

pub use candidate::{Candidate, CandidateKind};
pub use policy::{ClassRule, Conditions, PathPolicy, TrafficClass, is_local};
pub use remote::{Remote, SocketId};
pub use report::{PathReport, PathState};
pub use single::HintKind;

use foreign::ForeignPath;
use native::NativePaths;

/// The way a frame goes, or came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Between our socket and this address.
    Direct(Remote),
    /// Through the beacon.
    Relay,
}

/// What [`PathSet::handle_timeout`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathAction {
    /// Send a probe this way: the one of the peer's kind.
    Probe(Via),
    /// Ask the beacon to make both sides punch.
    Punch,
    /// Tell the beacon where we are: our NAT may have forgotten us.
    Discover,
    /// Tell the peer our candidates.
    Tell,
}

/// The paths to one peer.
#[derive(Debug)]
pub struct PathSet {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Foreign(ForeignPath),
    Native(Box<NativePaths>),
}

impl Default for PathSet {
    fn default() -> Self {
        Self { rule: Rule::Foreign(ForeignPath::default()) }
    }
}

impl PathSet {
    /// The peer is one of ours, as far as is known.
    pub fn set_native(&mut self, conditions: &Conditions) {
        let Rule::Foreign(foreign) = &self.rule else { return };
        let mut native = NativePaths::new();
        if let Some(direct) = foreign.direct() {
            native.hint(None, direct, HintKind::Registry, conditions);
        }
        native.answer_to = foreign.answer_to();
        native.relay_only = foreign.relay_only();
        self.rule = Rule::Native(Box::new(native));
    }

    /// The peer is not one of ours.
    pub fn set_foreign(&mut self) {
        let Rule::Native(native) = &self.rule else { return };
        let active = native.active.and_then(direct);
        let heard = native.paths.iter().filter(|path| path.last_received.is_some());
        let heard = heard.filter_map(|path| direct(path.via)).next();
        let hinted = native.paths.iter().filter_map(|path| direct(path.via)).next();
        let mut foreign = ForeignPath::default();
        if let Some(to) = active.or(heard).or(hinted) {
            foreign.suggest(to);
        }
        foreign.set_relay_only(native.relay_only);
        self.rule = Rule::Foreign(foreign);
    }

    /// Whether the peer is treated as one of ours.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(self.rule, Rule::Native(_))
    }

    /// Whether the peer has spoken of paths: then it is one of ours.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        matches!(&self.rule, Rule::Native(native) if native.is_proven)
    }

    /// Whether it sends frames, but ignores all probes of our kind.
    #[must_use]
    pub fn seems_foreign(&self) -> bool {
        matches!(&self.rule, Rule::Native(native) if native.is_foreign())
    }

    /// Notes an address of the registry. It does not displace one that is proven.
    pub fn suggest(&mut self, remote: Remote, conditions: &Conditions) {
        match &mut self.rule {
            Rule::Foreign(path) => path.suggest(remote),
            Rule::Native(paths) if paths.relay_only => {}
            Rule::Native(paths) => paths.hint(None, remote, HintKind::Registry, conditions),
        }
    }

    /// Notes an address that is worth a try now, for a peer of our kind.
    pub fn hint(&mut self, now: Instant, remote: Remote, kind: HintKind, conditions: &Conditions) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.hint(Some(now), remote, kind, conditions);
        }
    }

    /// The peer has told its candidates.
    pub fn on_candidates(
        &mut self,
        now: Instant,
        number: u32,
        candidates: &[Candidate],
        conditions: &Conditions,
    ) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.on_candidates(now, number, candidates, conditions);
        }
    }

    /// The registry says that this peer can be reached by relay only.
    pub fn set_relay_only(&mut self, relay_only: bool) {
        match &mut self.rule {
            Rule::Foreign(path) => path.set_relay_only(relay_only),
            Rule::Native(paths) => paths.relay_only = relay_only,
        }
    }

    /// Keys are agreed, perhaps with a new process of the peer.
    pub fn on_established(&mut self, now: Instant, conditions: &Conditions) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.on_established(now, conditions);
        }
    }

    /// No keys could be agreed: the direct address may be wrong.
    pub fn on_unreachable(&mut self) {
        if let Rule::Foreign(path) = &mut self.rule {
            path.unconfirm();
        }
    }

    /// Notes that a key exchange of `bytes` came directly. What it says is signed, but it may be
    /// old: so the path stays, and only our side of the exchange goes to that address.
    pub fn on_exchange(&mut self, from: Remote, bytes: usize, conditions: &Conditions) {
        match &mut self.rule {
            Rule::Foreign(path) => path.on_exchange(from),
            Rule::Native(paths) => paths.on_exchange(from, bytes, conditions),
        }
    }

    /// Notes that a key exchange came through the relay.
    pub fn on_relayed_exchange(&mut self, now: Instant) {
        if let Rule::Foreign(path) = &mut self.rule {
            path.on_relayed_exchange(now);
        }
    }

    /// Where a frame of the key exchange goes, and whether the beacon should make both sides
    /// punch. `may_copy`: it may go several ways.
    #[must_use]
    pub fn exchange_targets(&self, may_copy: bool, conditions: &Conditions) -> (Vec<Via>, bool) {
        let (mut targets, punches) = match &self.rule {
            Rule::Foreign(path) => path.exchange_targets(may_copy, conditions.has_relay),
            Rule::Native(paths) => paths.exchange_targets(may_copy, conditions.has_relay),
        };
        targets.retain(|via| direct(*via).is_none_or(|to| conditions.allows(to)));
        if targets.is_empty() && conditions.has_relay {
            targets.push(Via::Relay);
        }
        (targets, punches && conditions.has_direct)
    }

    /// Which way to send now; `None` when no way is known.
    #[must_use]
    pub fn route(&self, conditions: &Conditions) -> Option<Via> {
        let route = match &self.rule {
            Rule::Foreign(path) => path.route(conditions.has_relay),
            Rule::Native(paths) => paths.active,
        };
        match route {
            Some(Via::Direct(to)) if !conditions.allows(to) => {
                conditions.has_relay.then_some(Via::Relay)
            }
            Some(Via::Relay) if !conditions.has_relay => None,
            route => route,
        }
    }

    /// How many bytes may go that way now.
    #[must_use]
    pub fn allowance(&self, via: Via) -> usize {
        match &self.rule {
            Rule::Foreign(_) => usize::MAX,
            Rule::Native(paths) => paths.find(via).map_or(0, single::SinglePath::allowance),
        }
    }

    /// The best path that is not in use, for what goes two ways.
    #[must_use]
    pub fn second(&self, conditions: &Conditions) -> Option<Via> {
        let Rule::Native(paths) = &self.rule else { return None };
        paths.second().filter(|via| match via {
            Via::Direct(to) => conditions.allows(*to),
            Via::Relay => conditions.has_relay,
        })
    }

    /// Before something is sent.
    pub fn prepare(&mut self, now: Instant, conditions: &Conditions) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.prepare(now, conditions);
        }
    }

    /// The direct address in use; of a path that is not, the likeliest.
    #[must_use]
    pub fn direct(&self) -> Option<Remote> {
        match &self.rule {
            Rule::Foreign(path) => path.direct(),
            Rule::Native(paths) => paths.active.and_then(direct).or_else(|| {
                let known = paths.paths.iter().filter(|path| !path.is_relay());
                let best = known.max_by_key(|path| (path.is_proven, path.last_received, path.kind));
                best.and_then(|path| direct(path.via))
            }),
        }
    }

    /// Notes that frames went out. `is_use`: they carry something of somebody's; `is_question`: an
    /// answer must come.
    pub fn on_sent(&mut self, now: Instant, via: Via, sent: Sent) {
        match &mut self.rule {
            Rule::Foreign(path) if sent.expects_answer => path.on_sent(now, via),
            Rule::Foreign(_) => {}
            Rule::Native(paths) => {
                paths.on_sent(now, via, sent.frames, sent.bytes);
                if sent.is_use {
                    paths.on_used(now, via, sent.expects_answer);
                }
            }
        }
    }

    /// A probe of release 1.18's kind goes out, with this number.
    pub fn on_foreign_probe(&mut self, id: u32) {
        if let Rule::Foreign(path) = &mut self.rule {
            path.on_probe(id);
        }
    }

    /// Notes an authenticated frame of `bytes`, and which probe of release 1.18's kind it answers.
    pub fn on_authenticated(
        &mut self,
        now: Instant,
        via: Via,
        bytes: usize,
        answered: Option<u32>,
        conditions: &Conditions,
    ) {
        match &mut self.rule {
            Rule::Foreign(path) => {
                path.on_authenticated(now, via, answered);
            }
            Rule::Native(paths) => paths.on_authenticated(now, via, bytes, conditions),
        }
    }

    /// What came was for somebody: the peer is in use.
    pub fn on_content(&mut self, now: Instant) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.used_at = Some(now);
        }
    }

    /// A probe of our kind goes out; returns the count that it carries.
    pub fn on_probe(&mut self, now: Instant, via: Via, id: u32) -> u32 {
        match &mut self.rule {
            Rule::Foreign(_) => 0,
            Rule::Native(paths) => paths.on_probe(now, via, id),
        }
    }

    /// A probe of our kind came; returns the count for its answer.
    pub fn on_probed(&mut self, via: Via) -> u32 {
        match &mut self.rule {
            Rule::Foreign(_) => 0,
            Rule::Native(paths) => paths.on_probed(via),
        }
    }

    /// A probe was answered: `answer` is its id and the frames received. Returns whether it was
    /// one of ours.
    pub fn on_answer(
        &mut self,
        now: Instant,
        via: Via,
        answer: (u32, u32),
        conditions: &Conditions,
    ) -> bool {
        match &mut self.rule {
            Rule::Foreign(_) => false,
            Rule::Native(paths) => paths.on_answer(now, via, answer, conditions),
        }
    }

    /// Segments of another size go that way from now on: larger ones may have been lost for
    /// their size.
    pub fn forget_loss(&mut self, via: Via) {
        if let Rule::Native(paths) = &mut self.rule
            && let Some(path) = paths.find_mut(via)
        {
            path.loss.forget();
        }
    }

    /// The peer is to be told our candidates.
    pub fn tell(&mut self, now: Instant) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.tell(now);
        }
    }

    /// It has them.
    pub fn on_told(&mut self) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.on_told();
        }
    }

    /// A stream's retransmission timer has gone off.
    pub fn on_stall(&mut self, now: Instant) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.on_stall(now);
        }
    }

    /// Addresses here have changed, or we slept.
    pub fn on_network_change(&mut self, now: Instant, conditions: &Conditions) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.on_network_change(now, conditions);
        }
    }

    /// The conditions have changed.
    pub fn apply(&mut self, conditions: &Conditions) {
        if let Rule::Native(paths) = &mut self.rule {
            paths.apply(conditions);
        }
    }

    /// What was in flight is lost: the path that was left was dead, or the one in use has been.
    /// Said once.
    pub fn take_lost(&mut self) -> bool {
        match &mut self.rule {
            Rule::Foreign(_) => false,
            Rule::Native(paths) => paths.take_lost(),
        }
    }

    /// The smoothed round trip of a path, if it was measured.
    #[must_use]
    pub fn rtt(&self, via: Via) -> Option<Duration> {
        match &self.rule {
            Rule::Foreign(_) => None,
            Rule::Native(paths) => paths.find(via)?.srtt,
        }
    }

    /// The same of the path in use.
    #[must_use]
    pub fn active_rtt(&self) -> Option<Duration> {
        match &self.rule {
            Rule::Foreign(_) => None,
            Rule::Native(paths) => paths.active_path()?.srtt,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self, conditions: &Conditions) -> Option<Instant> {
        match &self.rule {
            Rule::Foreign(path) => path.poll_timeout(conditions.has_relay),
            Rule::Native(paths) => paths.poll_timeout(conditions),
        }
    }

    /// Moves on in time. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant, conditions: &Conditions) -> Vec<PathAction> {
        let mut actions = Vec::new();
        match &mut self.rule {
            Rule::Foreign(path) => match path.handle_timeout(now, conditions.has_relay) {
                Some(foreign::PathAction::Probe(to)) => {
                    actions.push(PathAction::Probe(Via::Direct(to)));
                }
                Some(foreign::PathAction::PunchAndProbe(to)) => {
                    actions.extend([PathAction::Punch, PathAction::Probe(Via::Direct(to))]);
                }
                None => {}
            },
            Rule::Native(paths) => paths.handle_timeout(now, conditions, &mut actions),
        }
        actions
    }

    /// What is known of all paths, the one in use first.
    #[must_use]
    pub fn report(&self, conditions: &Conditions) -> Vec<PathReport> {
        match &self.rule {
            Rule::Foreign(path) => path.report(conditions.has_relay),
            Rule::Native(paths) => paths.report(),
        }
    }
}

/// Frames that went out.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// How many.
    pub frames: u32,
    /// Bytes of their datagrams.
    pub bytes: usize,
    /// They carry something of somebody's.
    pub is_use: bool,
    /// And must be answered.
    pub expects_answer: bool,
}

fn direct(via: Via) -> Option<Remote> {
    match via {
        Via::Direct(to) => Some(to),
        Via::Relay => None,
    }
}

#[cfg(test)]
mod tests;

//! The rule for peers that are not ours: release 1.18 of the Go node knows one direct address of a
//! peer, and a relay flag.
//!
//! A path moves on an authenticated frame (the rule of WireGuard's roaming). What proves a direct
//! path is a frame that came by it, or the answer to a `pathprobe.v1`.

use std::time::{Duration, Instant};

use super::{PathReport, PathState, Remote, Via};

/// Sending this long on the direct path without any sign of life makes it suspect: it is probed.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// And this long after that without an answer to the probe, the relay takes over.
const DEAD_AFTER: Duration = Duration::from_millis(500);
/// Times between probes of the direct path while on relay; the last one repeats.
const PROBE_INTERVALS: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// Direct frames in a row that bring a relayed peer back to the direct path, as release 1.18 does.
const DIRECT_STREAK: u8 = 3;
/// An answer by relay to a direct probe holds for this long.
const ARRIVES_FOR: Duration = Duration::from_secs(10);
/// Without use for this long, a relayed path is not probed any more.
const PROBE_WHILE_USED: Duration = Duration::from_secs(60);

/// What [`ForeignPath::handle_timeout`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathAction {
    /// Send a probe to this address.
    Probe(Remote),
    /// Ask the beacon to make both sides punch, then probe.
    PunchAndProbe(Remote),
}

/// The paths to one peer.
#[derive(Debug, Default)]
pub(super) struct ForeignPath {
    direct: Option<Remote>,
    /// An authenticated frame has come from `direct`.
    confirmed: bool,
    /// A key exchange has come directly: it may be old, but more speaks for that way than against it.
    came_directly: bool,
    /// Where a key exchange came from, if that is not the proven address: a peer that restarted
    /// has a new port, and can prove it only once it has heard our answer.
    answer_to: Option<Remote>,
    relay_only: bool,
    on_relay: bool,
    /// First frame sent directly since the last sign of life.
    unanswered_since: Option<Instant>,
    suspect_since: Option<Instant>,
    last_direct_rx: Option<Instant>,
    last_used: Option<Instant>,
    direct_streak: u8,
    probes: usize,
    next_probe: Option<Instant>,
    /// Number of the last probe.
    probe_id: Option<u32>,
    /// What we send directly arrives, and what comes by relay says nothing against it until then.
    arrives_until: Option<Instant>,
}

impl ForeignPath {
    /// Notes an address to try, from the registry or a key exchange. It does not displace one
    /// that is proven.
    pub(super) fn suggest(&mut self, direct: Remote) {
        if !self.confirmed {
            self.direct = Some(direct);
        }
    }

    /// Notes that a key exchange came from `from`. What it says is signed, but it may be old: so
    /// the path stays, and only our side of the exchange goes to that address.
    pub(super) fn on_exchange(&mut self, from: Remote) {
        self.suggest(from);
        self.came_directly = true;
        let is_new = self.direct != Some(from) && !self.on_relay;
        self.answer_to = is_new.then_some(from);
    }

    /// Notes that a key exchange came through the relay. If none has come directly, the first data
    /// had better go the way that works; the direct one is probed meanwhile.
    pub(super) fn on_relayed_exchange(&mut self, now: Instant) {
        if !self.confirmed && !self.came_directly && !self.on_relay {
            self.enter_relay(now);
        }
    }

    pub(super) fn relay_only(&self) -> bool {
        self.relay_only
    }

    /// Where a frame of the key exchange goes: directly, and through the relay as well unless the
    /// direct path is proven (release 1.18 does the same; a duplicate is harmless because only data
    /// frames are counted). And whether to ask the beacon for a punch.
    pub(super) fn exchange_targets(&self, may_copy: bool, has_relay: bool) -> (Vec<Via>, bool) {
        let on_relay = self.route(has_relay) == Some(Via::Relay);
        let mut targets: Vec<Via> = self.answer_to.map(Via::Direct).into_iter().collect();
        let only_copy = !on_relay && targets.is_empty();
        targets.extend(self.direct.filter(|_| may_copy || only_copy).map(Via::Direct));
        let unproven = may_copy && !self.confirmed;
        if has_relay && (on_relay || unproven) {
            targets.push(Via::Relay);
        }
        (targets, has_relay && unproven)
    }

    pub(super) fn report(&self, has_relay: bool) -> Vec<PathReport> {
        let route = self.route(has_relay);
        let report = |via, state, last_received| PathReport {
            via,
            state,
            rtt: None,
            loss: None,
            mtu: None,
            is_active: route == Some(via),
            last_received,
        };
        let direct = self.direct.map(|direct| {
            let state = match (self.on_relay, self.confirmed) {
                (true, _) => PathState::Probing,
                (false, true) if self.suspect_since.is_some() => PathState::Suspect,
                (false, true) => PathState::Valid,
                (false, false) => PathState::Unknown,
            };
            report(Via::Direct(direct), state, self.last_direct_rx)
        });
        let state = if self.on_relay { PathState::Valid } else { PathState::Unknown };
        let relay = has_relay.then(|| report(Via::Relay, state, None));
        let mut reports: Vec<PathReport> = direct.into_iter().chain(relay).collect();
        reports.sort_by_key(|report| !report.is_active);
        reports
    }

    /// Where frames of the key exchange go, beside or instead of the direct path.
    pub(super) fn answer_to(&self) -> Option<Remote> {
        self.answer_to
    }

    /// The registry says that this peer can be reached by relay only.
    pub(super) fn set_relay_only(&mut self, relay_only: bool) {
        self.relay_only = relay_only;
    }

    /// Forgets that the direct address was proven, so that a new suggestion counts.
    pub(super) fn unconfirm(&mut self) {
        self.confirmed = false;
    }

    /// Which way to send now; `None` when no way is known.
    pub(super) fn route(&self, has_relay: bool) -> Option<Via> {
        let relayed = self.relay_only || self.on_relay && has_relay;
        match self.direct {
            Some(direct) if !relayed => Some(Via::Direct(direct)),
            _ => has_relay.then_some(Via::Relay),
        }
    }

    /// The direct address, whether in use or not.
    pub(super) fn direct(&self) -> Option<Remote> {
        self.direct
    }

    /// Notes that a frame which expects an answer went out.
    pub(super) fn on_sent(&mut self, now: Instant, via: Via) {
        self.last_used = Some(now);
        if matches!(via, Via::Direct(_)) {
            self.unanswered_since.get_or_insert(now);
        } else if self.next_probe.is_none() {
            self.schedule_probe(now);
        }
    }

    /// A probe with this number goes out.
    pub(super) fn on_probe(&mut self, id: u32) {
        self.probe_id = Some(id);
    }

    /// Notes an authenticated frame, and which probe it answers. Returns whether the route changed.
    pub(super) fn on_authenticated(
        &mut self,
        now: Instant,
        via: Via,
        answered: Option<u32>,
    ) -> bool {
        self.unanswered_since = None;
        self.suspect_since = None;
        self.answer_to = None;
        match via {
            Via::Direct(from) => {
                let moved = self.direct != Some(from) && !self.on_relay;
                self.direct = Some(from);
                self.confirmed = true;
                self.last_direct_rx = Some(now);
                if !self.on_relay {
                    return moved;
                }
                self.direct_streak = self.direct_streak.saturating_add(1);
                if answered.is_some() || self.direct_streak >= DIRECT_STREAK {
                    self.leave_relay();
                    return true;
                }
                false
            }
            Via::Relay => {
                self.direct_streak = 0;
                if answered.is_some() && answered == self.probe_id {
                    // It sends by relay, but what we send directly arrives; and when it has
                    // heard us so for a while, it comes along.
                    self.arrives_until = Some(now + ARRIVES_FOR);
                    let was_on_relay = self.on_relay;
                    self.leave_relay();
                    return was_on_relay;
                }
                if self.arrives_until.is_some_and(|until| now < until) {
                    return false;
                }
                // The peer can't, or doesn't yet, send directly. If nothing has come that way
                // lately, our direct path may be dead too.
                let stale = self.last_direct_rx.is_none_or(|at| now > at + 2 * SUSPECT_AFTER);
                if self.on_relay || !stale {
                    return false;
                }
                self.enter_relay(now);
                true
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn poll_timeout(&self, has_relay: bool) -> Option<Instant> {
        if !has_relay || self.relay_only || self.direct.is_none() {
            return None;
        }
        if self.on_relay {
            return self.next_probe;
        }
        match (self.suspect_since, self.unanswered_since) {
            (Some(at), _) => Some(at + DEAD_AFTER),
            (None, Some(at)) => Some(at + SUSPECT_AFTER),
            (None, None) => None,
        }
    }

    /// Moves on in time. Early and repeated calls are harmless.
    pub(super) fn handle_timeout(&mut self, now: Instant, has_relay: bool) -> Option<PathAction> {
        if self.poll_timeout(has_relay).is_none_or(|at| now < at) {
            return None;
        }
        let direct = self.direct?;
        if self.on_relay {
            self.schedule_probe(now);
            // The first probe follows a punch request that is already under way.
            return Some(match self.probes % 2 {
                0 => PathAction::PunchAndProbe(direct),
                _ => PathAction::Probe(direct),
            });
        }
        if self.suspect_since.is_none() {
            self.suspect_since = Some(now);
            return Some(PathAction::Probe(direct));
        }
        self.enter_relay(now);
        None
    }

    fn enter_relay(&mut self, now: Instant) {
        self.on_relay = true;
        self.arrives_until = None;
        self.direct_streak = 0;
        self.probes = 0;
        self.unanswered_since = None;
        self.suspect_since = None;
        self.schedule_probe(now);
    }

    fn leave_relay(&mut self) {
        self.on_relay = false;
        self.direct_streak = 0;
        self.next_probe = None;
    }

    fn schedule_probe(&mut self, now: Instant) {
        if self.last_used.is_none_or(|at| now > at + PROBE_WHILE_USED) {
            self.next_probe = None;
            return;
        }
        let last = PROBE_INTERVALS.len() - 1;
        self.next_probe = Some(now + PROBE_INTERVALS[self.probes.min(last)]);
        self.probes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Remote {
        std::net::SocketAddr::from(([192, 0, 2, 1], port)).into()
    }

    #[test]
    fn silence_leads_to_a_probe_and_then_to_the_relay() {
        let (mut path, start) = (ForeignPath::default(), Instant::now());
        path.suggest(addr(1));
        assert_eq!(path.route(true), Some(Via::Direct(addr(1))));
        path.on_sent(start, Via::Direct(addr(1)));
        let suspect = path.poll_timeout(true).unwrap();
        assert_eq!(path.handle_timeout(suspect, true), Some(PathAction::Probe(addr(1))));
        let dead = path.poll_timeout(true).unwrap();
        assert_eq!(path.handle_timeout(dead, true), None);
        assert_eq!(path.route(true), Some(Via::Relay));
        assert_eq!(path.route(false), Some(Via::Direct(addr(1))), "no relay, no choice");
    }

    #[test]
    fn a_probe_that_is_answered_leads_back() {
        let (mut path, start) = (ForeignPath::default(), Instant::now());
        path.suggest(addr(1));
        assert!(path.on_authenticated(start, Via::Relay, None));
        assert_eq!(path.route(true), Some(Via::Relay));
        path.on_sent(start, Via::Relay);
        let probe = path.poll_timeout(true).unwrap();
        assert!(path.handle_timeout(probe, true).is_some());
        assert!(path.on_authenticated(probe, Via::Direct(addr(2)), Some(1)));
        assert_eq!(path.route(true), Some(Via::Direct(addr(2))));
    }

    #[test]
    fn what_arrives_there_goes_directly_though_the_answer_comes_by_relay() {
        let (mut path, mut now) = (ForeignPath::default(), Instant::now());
        path.suggest(addr(1));
        path.on_relayed_exchange(now);
        path.on_probe(7);
        assert!(!path.on_authenticated(now, Via::Relay, Some(6)), "an old answer");
        assert!(path.on_authenticated(now, Via::Relay, Some(7)));
        assert_eq!(path.route(true), Some(Via::Direct(addr(1))));
        assert!(!path.on_authenticated(now, Via::Relay, None));
        now += ARRIVES_FOR;
        assert!(path.on_authenticated(now, Via::Relay, None), "it never came along");
        assert_eq!(path.route(true), Some(Via::Relay));
    }

    #[test]
    fn a_hint_does_not_displace_a_proven_address() {
        let (mut path, start) = (ForeignPath::default(), Instant::now());
        path.on_authenticated(start, Via::Direct(addr(1)), None);
        path.suggest(addr(2));
        assert_eq!(path.direct(), Some(addr(1)));
        assert!(path.on_authenticated(start, Via::Direct(addr(3)), None), "the peer roamed");
        assert_eq!(path.route(true), Some(Via::Direct(addr(3))));
    }

    #[test]
    fn who_answers_through_the_relay_only_is_asked_there_and_probed_soon() {
        let (mut path, start) = (ForeignPath::default(), Instant::now());
        path.suggest(addr(1));
        path.on_relayed_exchange(start);
        assert_eq!(path.route(true), Some(Via::Relay));
        path.on_sent(start, Via::Relay);
        let probe = path.poll_timeout(true).unwrap();
        assert!(probe < start + Duration::from_secs(1));
        assert!(path.handle_timeout(probe, true).is_some());

        let mut direct = ForeignPath::default();
        direct.on_exchange(addr(1));
        direct.on_relayed_exchange(start);
        assert_eq!(direct.route(true), Some(Via::Direct(addr(1))), "the copy says nothing new");
    }

    #[test]
    fn a_peer_that_restarted_is_answered_where_it_is_now() {
        let (mut path, start) = (ForeignPath::default(), Instant::now());
        path.on_authenticated(start, Via::Direct(addr(1)), None);
        path.on_exchange(addr(2));
        assert_eq!(path.answer_to(), Some(addr(2)));
        assert_eq!(path.route(true), Some(Via::Direct(addr(1))), "data waits for proof");
        path.on_authenticated(start, Via::Direct(addr(2)), Some(1));
        assert_eq!((path.answer_to(), path.direct()), (None, Some(addr(2))));
    }

    #[test]
    fn an_unused_relay_path_is_left_in_peace() {
        let (mut path, mut now) = (ForeignPath::default(), Instant::now());
        path.suggest(addr(1));
        path.on_sent(now, Via::Relay);
        path.on_authenticated(now, Via::Relay, None);
        let mut probes = 0;
        while let Some(at) = path.poll_timeout(true) {
            now = at;
            path.handle_timeout(now, true);
            probes += 1;
            assert!(probes < 20);
        }
    }
}

//! How large a datagram one path carries: packetization layer path MTU discovery (RFC 8899).
//!
//! [`PathMtu`] is the machine of one path (one address, or the relay) to one peer. It asks for
//! probes of a size and learns which of them were answered; nothing else is needed from the
//! network, no ICMP in particular. Sizes are bytes of UDP payload.
//!
//! ```text
//!            used by large segments        nothing larger gets through
//!   Base ───────────────────────► Searching ─────────────────► SearchComplete
//!    ▲ ▲                              ▲                          │        │
//!    │ │                              └──── raise timer, in use ─┘        │
//!    │ └──────────── larger segments vanish, or the kernel refuses them ──┘
//!    └─ base gets through again ─ Error ◄─ not even base gets through
//! ```
//!
//! # Why this order of sizes
//! Path MTUs are not spread evenly: they are those of a few technologies, less a few tunnels. So
//! only sizes of a table ([`RUNGS`]) are tried. The kernel refuses at once what is larger than
//! the local interface, so asking for too much costs nothing on the wire in the usual case; and a
//! loopback path, which takes the largest datagram there is, is asked for that first.
//!
//! # Why a lost probe says little
//! A probe is no part of any stream: its loss is no sign of congestion. A size is given up only
//! after [`MAX_PROBES`] losses during which something else did arrive, and a late answer still
//! counts.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::path::Via;

/// MTUs of networks and tunnels, in order. The last is what one UDP datagram can hold at all.
const RUNGS: [u16; 19] = [
    1_300, 1_340, 1_380, 1_400, 1_420, 1_440, 1_450, 1_460, 1_480,
    1_492, // tunnels, DSL, VPNs
    ETHERNET, 2_048, 4_000, 8_500, 8_896, JUMBO, 16_000, 32_000, 65_535,
];
const ETHERNET: u16 = 1_500;
const JUMBO: u16 = 9_000;
/// Bytes of a datagram that even the narrowest path carries (RFC 1122: every host takes packets
/// of 576 bytes).
pub const LEAST: u16 = 576 - 28;
/// Losses of one size before it is given up (RFC 8899 s5.1.2).
const MAX_PROBES: u8 = 3;
/// The same for the size in use, when its segments vanish.
const MAX_CHECKS: u8 = 2;
/// Probes into silence before the path counts as dead, which is not our question.
const MAX_SILENT: u8 = 4;
/// How long to wait before larger sizes are tried again (RFC 8899 s5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// The same the first time: what was lost at the start of a transfer may have been congestion.
const FIRST_RAISE_AFTER: Duration = Duration::from_secs(60);
/// In the error state, how often base is tried.
const RETRY_BASE: Duration = Duration::from_secs(5);
/// How long to wait for an answer while the round-trip time is unknown.
const UNKNOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// Bounds on that wait once it is known: not long, as a late answer still counts.
const LEAST_TIMEOUT: Duration = Duration::from_millis(20);
const MOST_TIMEOUT: Duration = Duration::from_secs(1);
/// Probes whose late answers still count.
const REMEMBERED: usize = 12;

/// Where the machine stands (RFC 8899 s5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuState {
    /// Base is used; larger sizes have not been tried.
    Base,
    /// Larger sizes are being tried.
    Searching,
    /// The largest size that gets through is in use.
    SearchComplete,
    /// Not even base gets through.
    Error,
}

/// A probe to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Comes back in the answer.
    pub id: u32,
    /// Bytes of its datagram.
    pub size: u16,
}

/// What one path carries.
#[derive(Debug)]
pub struct PathMtu {
    via: Via,
    /// Bytes that IP and UDP put before the datagram.
    overhead: u16,
    base: u16,
    /// No larger size is of use.
    limit: u16,
    state: MtuState,
    /// The largest datagram known to get through.
    size: u16,
    /// The least size that does not, as far as is known.
    too_large: Option<u16>,
    current: Option<Attempt>,
    /// The size in use, while it is doubted; with it a small probe is sent, to tell a path that
    /// drops large datagrams from one that drops all.
    doubt: Option<Attempt>,
    pending: [Option<Probe>; 3],
    raise_at: Option<Instant>,
    was_raised: bool,
    next_id: u32,
    /// Probes that may still be answered, the newest last.
    sent: Vec<(Probe, Instant)>,
    rtt: Option<Duration>,
    probes_sent: u32,
}

/// A size that is being tried.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    size: u16,
    lost: u8,
    silent: u8,
    sent: Instant,
    deadline: Instant,
}

impl PathMtu {
    /// Of a path whose datagrams go to `to`: our peer, or the beacon. `base` gets through
    /// everywhere; datagrams larger than `limit` would not be used.
    #[must_use]
    pub fn new(via: Via, to: SocketAddr, base: u16, limit: u16) -> Self {
        let overhead = match to.ip() {
            IpAddr::V4(_) => 28,
            IpAddr::V6(_) => 48,
        };
        // Past the beacon there is another path, which may be cut into fragments by a beacon that
        // lets its kernel do so: no jumbo frames there.
        let limit = match via {
            Via::Direct(_) => limit,
            Via::Relay => limit.min(ETHERNET - overhead),
        };
        Self {
            via,
            overhead,
            base,
            limit: limit.max(base),
            state: MtuState::Base,
            size: base,
            too_large: None,
            current: None,
            doubt: None,
            pending: [None; 3],
            raise_at: None,
            was_raised: false,
            next_id: 1,
            sent: Vec::new(),
            rtt: None,
            probes_sent: 0,
        }
    }

    /// The path.
    #[must_use]
    pub fn via(&self) -> Via {
        self.via
    }

    /// Bytes of the largest datagram that may be sent.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Whether that is what is taken for granted, and nothing larger.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.size == self.base
    }

    /// Where the machine stands.
    #[must_use]
    pub fn state(&self) -> MtuState {
        self.state
    }

    /// Probes sent so far.
    #[must_use]
    pub fn probes_sent(&self) -> u32 {
        self.probes_sent
    }

    /// The path carries as much as it may: starts looking for more if it is time to. Cheap, and
    /// `false` if there is nothing to do. `rtt` is an estimate of somebody else, if there is one.
    pub fn on_use(&mut self, now: Instant, rtt: impl FnOnce() -> Option<Duration>) -> bool {
        match self.state {
            MtuState::Base => {}
            // The path was silent.
            MtuState::Searching if self.current.is_none() => {}
            MtuState::SearchComplete if self.raise_at.is_some_and(|at| at <= now) => {
                self.too_large = None;
                self.was_raised = true;
            }
            MtuState::Error if self.current.is_none() && self.raise_at <= Some(now) => {
                self.attempt(now, self.base);
                return true;
            }
            _ => return false,
        }
        self.rtt = self.rtt.or_else(rtt);
        self.search(now);
        true
    }

    /// The next probe to send now.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let probe = self.pending.iter_mut().find_map(Option::take)?;
        if self.sent.len() == REMEMBERED {
            self.sent.remove(0);
        }
        self.sent.push((probe, now));
        self.probes_sent += 1;
        Some(probe)
    }

    /// A probe was answered. Anything else that answers carry is for the caller.
    pub fn on_answer(&mut self, now: Instant, id: u32) {
        let Some(at) = self.sent.iter().position(|(probe, _)| probe.id == id) else { return };
        let (probe, sent) = self.sent.remove(at);
        let took = now.saturating_duration_since(sent);
        self.rtt = Some(self.rtt.map_or(took, |rtt| (rtt * 3 + took) / 4));
        if self.doubt.is_some_and(|doubt| probe.size >= doubt.size) {
            self.doubt = None;
        }
        if probe.size <= self.size {
            return;
        }
        self.size = probe.size;
        if self.too_large.is_some_and(|bound| bound <= probe.size) {
            self.too_large = None;
        }
        match self.state {
            // Base gets through again; the rest is looked for when it is needed.
            MtuState::Error => {
                self.current = None;
                self.state = MtuState::Base;
            }
            _ if self.current.is_none_or(|current| current.size <= probe.size) => self.search(now),
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.current, self.doubt].into_iter().flatten().map(|attempt| attempt.deadline).min()
    }

    /// Moves on in time. `heard` is when anything authentic last came from the peer.
    pub fn handle_timeout(&mut self, now: Instant, heard: Option<Instant>) {
        if let Some(current) = self.current
            && current.deadline <= now
        {
            match current.after_loss(heard) {
                (_, silent) if silent >= MAX_SILENT => self.give_up(now),
                (lost, _) if lost >= MAX_PROBES => self.failed(now, current.size),
                (lost, silent) => {
                    let again = self.send(now, current.size, 0);
                    self.current = Some(Attempt { lost, silent, ..again });
                }
            }
        }
        if let Some(doubt) = self.doubt
            && doubt.deadline <= now
        {
            match doubt.after_loss(heard) {
                (_, silent) if silent >= MAX_SILENT => self.doubt = None,
                (lost, _) if lost >= MAX_CHECKS => self.fall_back(now),
                (lost, silent) => {
                    self.doubt = Some(Attempt { lost, silent, ..self.ask_both(now) });
                }
            }
        }
    }

    /// A stream has repeated a segment of more than `LEAST` bytes in vain, `repeats` times in a
    /// row. Segments larger than base that vanish are taken for a black hole the second time;
    /// otherwise the size is tested.
    pub fn on_stall(&mut self, now: Instant, repeats: u32) {
        if self.state == MtuState::Error {
            return;
        }
        match (self.size > self.base, repeats) {
            (true, 2..) => self.fall_back(now),
            (true, 1) | (false, 3..) if self.doubt.is_none() => {
                self.doubt = Some(self.ask_both(now));
            }
            _ => {}
        }
    }

    /// The kernel refused to send `size` bytes: more than the interface takes.
    pub fn on_refused(&mut self, now: Instant, size: u16) {
        if size <= self.size {
            self.too_large = Some(size);
            return self.fall_back_below(now, size);
        }
        if self.current.is_some_and(|current| current.size >= size) {
            self.failed(now, size);
        }
    }

    /// Tries the next size, or is content with what there is.
    fn search(&mut self, now: Instant) {
        match self.next_size() {
            Some(size) => {
                self.state = MtuState::Searching;
                self.attempt(now, size);
            }
            None => {
                self.state = MtuState::SearchComplete;
                self.current = None;
                let pause = if self.was_raised { RAISE_AFTER } else { FIRST_RAISE_AFTER };
                self.raise_at = (self.size < self.limit).then_some(now + pause);
            }
        }
    }

    fn attempt(&mut self, now: Instant, size: u16) {
        self.current = Some(self.send(now, size, 0));
    }

    /// Of the sizes that are possible, the one whose outcome tells most.
    fn next_size(&self) -> Option<u16> {
        let bound = self.too_large.map_or(u32::from(u16::MAX) + 1, u32::from);
        let mut possible: Vec<u16> = RUNGS
            .iter()
            .map(|mtu| (mtu - self.overhead).min(self.limit))
            .filter(|size| *size > self.size && u32::from(*size) < bound)
            .collect();
        possible.dedup();
        let (first, last) = (*possible.first()?, *possible.last()?);
        let [ethernet, jumbo] = [ETHERNET, JUMBO].map(|mtu| mtu - self.overhead);
        let is_open = self.too_large.is_none();
        if is_open && (self.is_loopback() || self.size >= jumbo) {
            Some(last)
        } else if possible.contains(&ethernet) {
            Some(ethernet)
        } else if is_open && possible.contains(&jumbo) {
            Some(jumbo)
        } else if self.size == ethernet || self.size >= jumbo {
            // Most probably there is nothing more at all.
            Some(first)
        } else {
            possible.get(possible.len() / 2).copied()
        }
    }

    fn is_loopback(&self) -> bool {
        matches!(self.via, Via::Direct(to) if to.addr.ip().is_loopback())
    }

    /// Queues a probe.
    fn send(&mut self, now: Instant, size: u16, slot: usize) -> Attempt {
        let probe = Probe { id: self.next_id, size };
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(pending) = self.pending.get_mut(slot) {
            *pending = Some(probe);
        }
        let timeout = self.rtt.map_or(UNKNOWN_TIMEOUT, |rtt| {
            (rtt * 3 / 2 + LEAST_TIMEOUT / 2).clamp(LEAST_TIMEOUT, MOST_TIMEOUT)
        });
        Attempt { size, lost: 0, silent: 0, sent: now, deadline: now + timeout }
    }

    /// Queues a probe of the size in use, and a small one.
    fn ask_both(&mut self, now: Instant) -> Attempt {
        self.send(now, LEAST.min(self.size), 1);
        self.send(now, self.size, 2)
    }

    /// A size does not get through.
    fn failed(&mut self, now: Instant, size: u16) {
        self.current = None;
        if self.state == MtuState::Error {
            self.raise_at = Some(now + RETRY_BASE);
            return;
        }
        self.too_large = Some(self.too_large.map_or(size, |bound| bound.min(size)));
        self.search(now);
    }

    /// The path is silent: the search goes on when it is used again.
    fn give_up(&mut self, now: Instant) {
        self.current = None;
        match self.state {
            MtuState::Error => self.raise_at = Some(now + RETRY_BASE),
            _ if self.size == self.base => self.state = MtuState::Base,
            _ => self.state = MtuState::Searching,
        }
    }

    /// What is in use does not get through any more.
    fn fall_back(&mut self, now: Instant) {
        // Nothing that was learned about larger sizes holds; maybe the path was only dead.
        self.too_large = None;
        self.fall_back_below(now, self.size);
    }

    fn fall_back_below(&mut self, now: Instant, size: u16) {
        self.current = None;
        self.doubt = None;
        self.pending = [None; 3];
        // Answers that are on their way speak of the path as it was.
        self.sent.clear();
        self.was_raised = false;
        if size > self.base {
            self.size = self.base;
            self.state = MtuState::Base;
        } else {
            self.size = LEAST.min(self.base);
            self.state = MtuState::Error;
            self.raise_at = Some(now + RETRY_BASE);
        }
    }
}

impl Attempt {
    /// Counters after another loss: of losses that count, and of those in a row amid silence.
    fn after_loss(self, heard: Option<Instant>) -> (u8, u8) {
        if heard.is_some_and(|at| at > self.sent) {
            (self.lost + 1, 0)
        } else {
            (self.lost, self.silent + 1)
        }
    }
}

#[cfg(test)]
mod tests;

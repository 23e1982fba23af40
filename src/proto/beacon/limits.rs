//! How much one address, one node and all together may send (GCRA: each has a time at which it
//! will have paid for what it sent, never further ahead than its burst).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::BeaconConfig;
use crate::proto::subscriber::subscriber;

const REQUEST_BURST: Duration = Duration::from_secs(4);
const RELAY_BURST: Duration = Duration::from_millis(250);
/// A node's share is met within this.
const SHARE_BURST: Duration = Duration::from_millis(100);
/// What all nodes together may be ahead.
const TOTAL_BURST: Duration = Duration::from_millis(20);
/// Nodes count as relaying if they did so in this time, or the one before.
const WINDOW: Duration = Duration::from_secs(1);
/// Challenges that nobody asked for go to one endpoint this seldom.
const HINT_PAUSE: Duration = Duration::from_millis(100);
const HINT_SLOTS: usize = 4_096;
const SECOND: Duration = Duration::from_secs(1);

/// Pays `cost`, unless too much is owed.
fn pay(paid_at: &mut Instant, now: Instant, cost: Duration, burst: Duration) -> bool {
    if *paid_at > now + burst {
        return false;
    }
    *paid_at = (*paid_at).max(now) + cost;
    true
}

fn cost(bytes: usize, bytes_per_sec: u64) -> Duration {
    let nanos = u128::from(u64::try_from(bytes).unwrap_or(u64::MAX)) * SECOND.as_nanos();
    let nanos = nanos / u128::from(bytes_per_sec.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(SECOND)
}

/// The rates of addresses. Bounded: when the table is full of busy ones, others are refused.
#[derive(Debug)]
pub(super) struct Addresses {
    rates: HashMap<IpAddr, Rates>,
    max: usize,
    relay_cost: Duration,
    request_cost: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Rates {
    relays: Instant,
    requests: Instant,
}

impl Addresses {
    pub(super) fn new(config: &BeaconConfig) -> Self {
        Self {
            rates: HashMap::new(),
            max: config.max_sources,
            relay_cost: SECOND / config.relays_per_sec.max(1),
            request_cost: SECOND / config.requests_per_sec.max(1),
        }
    }

    pub(super) fn admit_request(&mut self, now: Instant, ip: IpAddr) -> bool {
        let cost = self.request_cost;
        self.admit(now, ip, |rates| pay(&mut rates.requests, now, cost, REQUEST_BURST))
    }

    pub(super) fn admit_relay(&mut self, now: Instant, ip: IpAddr) -> bool {
        let cost = self.relay_cost;
        self.admit(now, ip, |rates| pay(&mut rates.relays, now, cost, RELAY_BURST))
    }

    fn admit(&mut self, now: Instant, ip: IpAddr, pay: impl FnOnce(&mut Rates) -> bool) -> bool {
        if ip.is_loopback() {
            return true;
        }
        let ip = subscriber(ip);
        if self.rates.len() >= self.max && !self.rates.contains_key(&ip) {
            self.forget_idle(now);
            if self.rates.len() >= self.max {
                return false;
            }
        }
        pay(self.rates.entry(ip).or_insert(Rates { relays: now, requests: now }))
    }

    pub(super) fn forget_idle(&mut self, now: Instant) {
        self.rates.retain(|_, rates| rates.relays > now || rates.requests > now);
    }
}

/// What one node has relayed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    bytes: Instant,
    share: Instant,
    /// The last window in which it relayed.
    window: u64,
}

impl Usage {
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: now, share: now, window: 0 }
    }
}

/// What the relay carries, and who gets how much of it.
///
/// A node may always send within its share, which is the whole divided by the nodes that relay;
/// beyond it, a node may send what the others leave. So one greedy node gets all of an idle relay
/// and takes nothing from anybody on a busy one.
#[derive(Debug)]
pub(super) struct Capacity {
    total: u64,
    per_node: u64,
    paid_at: Option<Instant>,
    window: u64,
    window_ends: Option<Instant>,
    /// Nodes that relayed in this window, and in the one before.
    active: (u64, u64),
}

impl Capacity {
    pub(super) fn new(config: &BeaconConfig) -> Self {
        Self {
            total: config.total_bytes_per_sec,
            per_node: config.relay_bytes_per_sec,
            paid_at: None,
            window: 0,
            window_ends: None,
            active: (0, 0),
        }
    }

    /// Whether the node may have `bytes` more passed on.
    pub(super) fn admit(&mut self, now: Instant, usage: &mut Usage, bytes: usize) -> bool {
        self.roll(now);
        if usage.window != self.window {
            usage.window = self.window;
            self.active.0 += 1;
        }
        if usage.bytes > now + RELAY_BURST {
            return false;
        }
        let paid_at = self.paid_at.get_or_insert(now);
        let share = self.total / self.active.0.max(self.active.1).max(1);
        let is_in_share = pay(&mut usage.share, now, cost(bytes, share), SHARE_BURST);
        if !is_in_share && *paid_at > now + TOTAL_BURST {
            return false;
        }
        // What is within shares goes beyond the total only for a moment, so the debt is bounded.
        *paid_at = ((*paid_at).max(now) + cost(bytes, self.total)).min(now + SECOND);
        usage.bytes = usage.bytes.max(now) + cost(bytes, self.per_node);
        true
    }

    fn roll(&mut self, now: Instant) {
        let ends = *self.window_ends.get_or_insert_with(|| {
            self.window = 1;
            now + WINDOW
        });
        if now >= ends {
            let is_next = now < ends + WINDOW;
            self.active = (0, if is_next { self.active.0 } else { 0 });
            self.window += 1;
            self.window_ends = Some(now + WINDOW);
        }
    }
}

/// Keeps what nobody asked for seldom: a slot for each endpoint, shared by those with one hash.
#[derive(Debug)]
pub(super) struct Hints(Vec<Option<Instant>>);

impl Hints {
    pub(super) fn new() -> Self {
        Self(vec![None; HINT_SLOTS])
    }

    pub(super) fn admit(&mut self, now: Instant, to: SocketAddr) -> bool {
        let mut hasher = DefaultHasher::new();
        to.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % HINT_SLOTS as u64).unwrap_or(0);
        match self.0.get_mut(at) {
            Some(last) if last.is_none_or(|last| now >= last + HINT_PAUSE) => {
                *last = Some(now);
                true
            }
            _ => false,
        }
    }
}

/// Signatures verified, whoever sent them.
#[derive(Debug)]
pub(super) struct Proofs {
    paid_at: Option<Instant>,
    cost: Duration,
}

impl Proofs {
    pub(super) fn new(config: &BeaconConfig) -> Self {
        Self { paid_at: None, cost: SECOND / config.proofs_per_sec.max(1) }
    }

    pub(super) fn admit(&mut self, now: Instant) -> bool {
        pay(self.paid_at.get_or_insert(now), now, self.cost, SECOND)
    }
}

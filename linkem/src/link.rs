//! One direction of a link with the packets that are on their way.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::params::{LinkParams, Loss};

/// What a link carries.
pub trait Packet: Clone {
    /// Bytes that it takes on the link.
    fn size(&self) -> usize;

    /// Flips a bit; `bit` is less than eight times [`size`](Self::size).
    fn flip(&mut self, bit: usize);
}

impl Packet for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn flip(&mut self, bit: usize) {
        self[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A packet with a note for its receiver, which takes no room: who sent it, for example.
impl<T: Clone, P: Packet> Packet for (T, P) {
    fn size(&self) -> usize {
        self.1.size()
    }

    fn flip(&mut self, bit: usize) {
        self.1.flip(bit);
    }
}

/// What has happened so far, in packets unless the name says bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given to the link.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Taken from the link, copies included.
    pub delivered: u64,
    /// Bytes of these.
    pub delivered_bytes: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Larger than the MTU.
    pub too_big: u64,
    /// Sent while the link was down or dead.
    pub cut: u64,
    /// Delivered with a flipped bit, or on their way with one.
    pub corrupted: u64,
    /// Doubled.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
}

/// Packets on their way, in one direction.
#[derive(Debug)]
pub struct Link<P = Vec<u8>> {
    params: LinkParams,
    start: Instant,
    in_burst: bool,
    /// When the queue in front of a limited rate is empty.
    free_at: Instant,
    /// When the last packet that kept its place arrives.
    last_arrival: Instant,
    on_the_way: BinaryHeap<OnTheWay<P>>,
    bytes_on_the_way: usize,
    serial: u64,
    counters: Counters,
}

impl<P: Packet> Link<P> {
    /// An empty link, which starts now.
    #[must_use]
    pub fn new(now: Instant, params: LinkParams) -> Self {
        Self {
            params,
            start: now,
            in_burst: false,
            free_at: now,
            last_arrival: now,
            on_the_way: BinaryHeap::new(),
            bytes_on_the_way: 0,
            serial: 0,
            counters: Counters::default(),
        }
    }

    /// Puts a packet on the link, which may lose it, spoil it, or deliver it twice.
    pub fn send(&mut self, now: Instant, mut packet: P) {
        let mut chance = Chance::of_packet(self.params.seed, self.counters.sent);
        let size = packet.size();
        self.counters.sent += 1;
        self.counters.sent_bytes += size as u64;
        let is_lost = self.loses(&mut chance);
        let params = self.params;
        let is_dead = params.dead_after.is_some_and(|after| now >= self.start + after);
        if params.down || is_dead {
            self.counters.cut += 1;
            return;
        }
        if params.mtu.is_some_and(|mtu| size > mtu) {
            self.counters.too_big += 1;
            return;
        }
        let Some(at) = self.take_turn(now, size) else {
            self.counters.dropped += 1;
            return;
        };
        if is_lost {
            self.counters.lost += 1;
            return;
        }
        let bit = chance.next();
        if chance.happens(params.corrupt) && size > 0 {
            self.counters.corrupted += 1;
            packet.flip((bit % (size as u64 * 8)) as usize);
        }
        if chance.happens(params.duplicate) {
            self.counters.duplicated += 1;
            self.travel(at, packet.clone(), &mut chance);
        }
        self.travel(at, packet, &mut chance);
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.on_the_way.peek().map(|next| next.at)
    }

    /// Takes a packet that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<P> {
        if self.next_arrival()? > now {
            return None;
        }
        let packet = self.on_the_way.pop()?.packet;
        self.bytes_on_the_way -= packet.size();
        self.counters.delivered += 1;
        self.counters.delivered_bytes += packet.size() as u64;
        Some(packet)
    }

    /// Changes the link. Packets on their way arrive as they would have.
    pub fn set_params(&mut self, params: LinkParams) {
        self.params = params;
    }

    /// What it does to packets.
    #[must_use]
    pub fn params(&self) -> &LinkParams {
        &self.params
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes that wait in front of a limited rate.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> u64 {
        let waiting = self.free_at.saturating_duration_since(now);
        self.params.rate.map_or(0, |rate| {
            u64::try_from(waiting.as_nanos() * u128::from(rate) / NANOS).unwrap_or(u64::MAX)
        })
    }

    /// How many packets are on their way, in the queue or behind it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.on_the_way.len()
    }

    /// The bytes of these.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_on_the_way
    }

    /// When a packet of this size has left the queue; `None` if it has no place in it.
    fn take_turn(&mut self, now: Instant, size: usize) -> Option<Instant> {
        let Some(rate) = self.params.rate else { return Some(now) };
        let backlog = self.backlog(now);
        // An idle link takes any packet.
        if backlog > 0 && backlog + size as u64 > self.params.queue_bytes() {
            return None;
        }
        let nanos = size as u128 * NANOS / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }

    fn travel(&mut self, mut at: Instant, packet: P, chance: &mut Chance) {
        let params = self.params;
        at += params.delay + params.jitter.mul_f64(chance.unit());
        if params.keep_order {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let times = 1 + chance.next() % 3;
        if chance.happens(params.reorder) {
            self.counters.reordered += 1;
            at += params.reorder_by.unwrap_or(params.delay * times as u32);
        }
        self.serial += 1;
        self.bytes_on_the_way += packet.size();
        self.on_the_way.push(OnTheWay { at, serial: self.serial, packet });
    }

    fn loses(&mut self, chance: &mut Chance) -> bool {
        match self.params.loss {
            Loss::Bernoulli(share) => chance.happens(share),
            Loss::Bursts { enter, leave, loss } => {
                let turn = if self.in_burst { leave } else { enter };
                self.in_burst ^= chance.happens(turn);
                self.in_burst && chance.happens(loss)
            }
        }
    }
}

const NANOS: u128 = 1_000_000_000;

/// Ordered so that the next to arrive is the greatest; of two at once, the first sent.
#[derive(Debug)]
struct OnTheWay<P> {
    at: Instant,
    serial: u64,
    packet: P,
}

impl<P> Ord for OnTheWay<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<P> PartialOrd for OnTheWay<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for OnTheWay<P> {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl<P> Eq for OnTheWay<P> {}

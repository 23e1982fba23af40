//! How much one address and one node may ask: token buckets, refilled by the second.
//!
//! A fleet behind a NAT shares its address, and after the registry was away all of it comes back
//! at once. So a request that turns out to be signed by a node's key costs its address little, and
//! is paid by the node.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{DirectoryConfig, Refusal, refuse};
use crate::proto::subscriber::subscriber;
use crate::wire::registry::{ErrorCode, Request};

/// Addresses with a bucket at once; full buckets are dropped to make room.
const MAX_SOURCES: usize = 65_536;
/// A bucket of requests holds this many seconds' worth.
const BURST_SECS: u32 = 5;
/// What a request of an unknown costs its address, for one that a node signed.
const STRANGERS_PAY: u32 = 20;

/// Tokens, refilled by the second.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u32,
    refilled: u64,
}

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
struct Size {
    per_sec: u32,
    max: u32,
}

impl Size {
    fn full(self, now: u64) -> Bucket {
        Bucket { level: self.max, refilled: now }
    }

    fn refill(self, bucket: &mut Bucket, now: u64) {
        let elapsed = u32::try_from(now.saturating_sub(bucket.refilled)).unwrap_or(u32::MAX);
        let gained = elapsed.saturating_mul(self.per_sec);
        bucket.level = bucket.level.saturating_add(gained).min(self.max);
        bucket.refilled = bucket.refilled.max(now);
    }

    fn take(self, bucket: &mut Bucket, now: u64, cost: u32) -> bool {
        self.refill(bucket, now);
        let is_enough = bucket.level >= cost;
        if is_enough {
            bucket.level -= cost;
        }
        is_enough
    }
}

/// What a node may still ask.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance(Option<Bucket>);

#[derive(Debug)]
pub(super) struct Limits {
    per_node: Size,
    per_address: Size,
    /// In sixtieths, so that a per-minute rate refills by the second in whole numbers.
    new_nodes: Size,
    sources: HashMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    requests: Bucket,
    new_nodes: Bucket,
}

impl Limits {
    pub(super) fn new(config: &DirectoryConfig) -> Self {
        let per_sec = config.requests_per_sec;
        let per_node = Size { per_sec, max: per_sec.saturating_mul(BURST_SECS) };
        let of_strangers = per_sec.saturating_mul(STRANGERS_PAY);
        Self {
            per_node,
            per_address: Size {
                per_sec: of_strangers,
                max: of_strangers.saturating_mul(BURST_SECS),
            },
            new_nodes: Size {
                per_sec: config.new_nodes_per_min,
                max: config.new_nodes_burst.saturating_mul(60),
            },
            sources: HashMap::new(),
        }
    }

    /// Has the address pay for a request, by about what it costs to answer, as a stranger's.
    pub(super) fn admit(
        &mut self,
        now: u64,
        from: IpAddr,
        request: &Request,
    ) -> Result<(), Refusal> {
        let (cost, size) = (cost(request) * STRANGERS_PAY, self.per_address);
        let Some(source) = self.source(now, from) else { return Ok(()) };
        match size.take(&mut source.requests, now, cost) {
            true => Ok(()),
            false => too_many("your address"),
        }
    }

    /// The request was signed by a node: the address gets back what it paid too much, and the node
    /// pays.
    pub(super) fn settle(
        &mut self,
        now: u64,
        from: IpAddr,
        request: &Request,
        allowance: Option<&mut Allowance>,
    ) -> Result<(), Refusal> {
        let (cost, max) = (cost(request), self.per_address.max);
        let Some(source) = self.source(now, from) else { return Ok(()) };
        source.requests.level = (source.requests.level + cost * (STRANGERS_PAY - 1)).min(max);
        // A node that is new pays by being new.
        let Some(Allowance(bucket)) = allowance else { return Ok(()) };
        let bucket = bucket.get_or_insert(self.per_node.full(now));
        match self.per_node.take(bucket, now, cost) {
            true => Ok(()),
            false => too_many("you"),
        }
    }

    /// Counts a key that was not seen before.
    pub(super) fn admit_key(&mut self, now: u64, from: IpAddr) -> Result<(), Refusal> {
        let size = self.new_nodes;
        let Some(source) = self.source(now, from) else { return Ok(()) };
        if !size.take(&mut source.new_nodes, now, 60) {
            let text = "rate limited: too many new keys from your address";
            return refuse(ErrorCode::Limited, text);
        }
        Ok(())
    }

    /// The buckets of the address; `None` for one that is not limited.
    fn source(&mut self, now: u64, from: IpAddr) -> Option<&mut Source> {
        let from = subscriber(from);
        if from.is_loopback() {
            return None;
        }
        let (requests, new_nodes) = (self.per_address, self.new_nodes);
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&from) {
            self.sources.retain(|_, source| {
                requests.refill(&mut source.requests, now);
                new_nodes.refill(&mut source.new_nodes, now);
                source.requests.level < requests.max || source.new_nodes.level < new_nodes.max
            });
            if self.sources.len() >= MAX_SOURCES {
                self.sources.clear();
            }
        }
        let full = || Source { requests: requests.full(now), new_nodes: new_nodes.full(now) };
        Some(self.sources.entry(from).or_insert_with(full))
    }
}

fn cost(request: &Request) -> u32 {
    match request {
        Request::Find { .. } | Request::ListNetworks {} => 10,
        Request::Register(_) => 4,
        _ if request.signature().is_some() => 2,
        _ => 1,
    }
}

fn too_many(whose: &str) -> Result<(), Refusal> {
    refuse(ErrorCode::Limited, format!("rate limited: too many requests from {whose}"))
}

//! How much one address may ask: token buckets, refilled by the second.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{DirectoryConfig, Refusal, refuse};
use crate::proto::subscriber::subscriber;
use crate::wire::registry::{ErrorCode, Request};

/// Addresses with a bucket at once; full buckets are dropped to make room.
const MAX_SOURCES: usize = 65_536;
/// The bucket of requests holds this many seconds' worth.
const BURST_SECS: u32 = 5;

#[derive(Debug)]
pub(super) struct SourceLimits {
    requests_per_sec: u32,
    new_nodes_per_min: u32,
    sources: HashMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    requests: u32,
    /// In sixtieths, so that a per-minute rate refills by the second in whole numbers.
    new_nodes: u32,
    refilled: u64,
}

impl SourceLimits {
    pub(super) fn new(config: &DirectoryConfig) -> Self {
        Self {
            requests_per_sec: config.requests_per_sec,
            new_nodes_per_min: config.new_nodes_per_min,
            sources: HashMap::new(),
        }
    }

    /// Counts a request, by about what it costs to answer.
    pub(super) fn admit(
        &mut self,
        now: u64,
        from: IpAddr,
        request: &Request,
    ) -> Result<(), Refusal> {
        let cost = match request {
            Request::Find { .. } | Request::ListNetworks {} => 10,
            Request::Register(_) => 4,
            _ if request.signature().is_some() => 2,
            _ => 1,
        };
        match self.source(now, from) {
            Some(source) if source.requests < cost => {
                refuse(ErrorCode::Limited, "rate limited: too many requests from your address")
            }
            Some(source) => {
                source.requests -= cost;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a key that was not seen before.
    pub(super) fn admit_key(&mut self, now: u64, from: IpAddr) -> Result<(), Refusal> {
        match self.source(now, from) {
            Some(source) if source.new_nodes < 60 => {
                refuse(ErrorCode::Limited, "rate limited: too many new keys from your address")
            }
            Some(source) => {
                source.new_nodes -= 60;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The refilled bucket of the address; `None` for one that is not limited.
    fn source(&mut self, now: u64, from: IpAddr) -> Option<&mut Source> {
        let from = subscriber(from);
        if from.is_loopback() {
            return None;
        }
        let full = Source {
            requests: self.requests_per_sec.saturating_mul(BURST_SECS),
            new_nodes: self.new_nodes_per_min.saturating_mul(60),
            refilled: now,
        };
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&from) {
            // A minute fills every bucket, so older ones carry no information.
            self.sources.retain(|_, source| source.refilled + 60 > now);
            if self.sources.len() >= MAX_SOURCES {
                self.sources.clear();
            }
        }
        let (per_sec, per_min) = (self.requests_per_sec, self.new_nodes_per_min);
        let (max_requests, max_new) = (full.requests, full.new_nodes);
        let source = self.sources.entry(from).or_insert(full);
        let elapsed = u32::try_from(now.saturating_sub(source.refilled)).unwrap_or(u32::MAX);
        let refill = |level: u32, rate: u32, max: u32| {
            level.saturating_add(elapsed.saturating_mul(rate)).min(max)
        };
        source.requests = refill(source.requests, per_sec, max_requests);
        source.new_nodes = refill(source.new_nodes, per_min, max_new);
        source.refilled = source.refilled.max(now);
        Some(source)
    }
}

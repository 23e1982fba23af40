//! What happens to a node's paths and network, for whoever watches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use super::core::Shared;
use super::paths::{Route, date};
use super::resolver::Resolver;
use super::types::PathKind;
use super::{Node, NodeError};
use crate::wire::{Addr, NodeId};

/// Events kept for one watcher; beyond that the oldest is dropped.
const MAX_EVENTS: usize = 1_024;
/// Peers for which the time of the last change is kept.
const MAX_KNOWN: usize = 16_384;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// Packets for a peer go another way.
    PathChanged {
        /// The peer.
        peer: Addr,
        /// Its hostname, where known.
        hostname: Option<String>,
        /// How they went; `None` if they did not.
        old: Option<Route>,
        /// How they go.
        new: Route,
        /// When.
        at: SystemTime,
    },
    /// Where others may reach this node has changed.
    NetworkChanged {
        /// The UDP address that the rendezvous sees, if it has answered.
        observed: Option<SocketAddr>,
        /// When.
        at: SystemTime,
    },
}

/// How often paths have changed since the start of the node.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PathCounters {
    /// From the relay to a direct path.
    pub(super) upgraded: u64,
    /// From a direct path to the relay.
    pub(super) lost: u64,
    /// From a direct path to another.
    pub(super) moved: u64,
}

#[derive(Debug, Default)]
struct Watcher {
    queue: VecDeque<(NodeEvent, NodeId)>,
    waker: Option<Waker>,
    dropped: u64,
}

/// Who watches, and what there was to see.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    watchers: BTreeMap<u64, Watcher>,
    last_id: u64,
    since: HashMap<NodeId, Instant>,
    /// Who is to be woken once the lock is released.
    pub(super) woken: Vec<Waker>,
    pub(super) counters: PathCounters,
}

impl Watchers {
    /// When the path to this peer last changed.
    pub(super) fn since(&self, node: NodeId) -> Option<Instant> {
        self.since.get(&node).copied()
    }

    /// Notes that packets for a peer go another way.
    pub(super) fn path_changed(
        &mut self,
        now: Instant,
        node: NodeId,
        old: Option<Route>,
        new: Route,
    ) {
        let counters = &mut self.counters;
        match (old.map(|route| route.kind), new.kind) {
            (Some(PathKind::Relay), PathKind::Direct) => counters.upgraded += 1,
            (Some(PathKind::Direct), PathKind::Relay) => counters.lost += 1,
            (Some(PathKind::Direct), PathKind::Direct) => counters.moved += 1,
            _ => {}
        }
        if self.since.len() >= MAX_KNOWN && !self.since.contains_key(&node) {
            // A date that is not known is not told; a table that grows for ever is worse.
            self.since.clear();
        }
        self.since.insert(node, now);
        let peer = Addr::global(node);
        let event = NodeEvent::PathChanged { peer, hostname: None, old, new, at: date(now) };
        self.tell(event, node);
    }

    /// Notes that the node's own place in the network has changed.
    pub(super) fn network_changed(&mut self, now: Instant, observed: Option<SocketAddr>) {
        self.tell(NodeEvent::NetworkChanged { observed, at: date(now) }, NodeId(0));
    }

    fn tell(&mut self, event: NodeEvent, about: NodeId) {
        for watcher in self.watchers.values_mut() {
            if watcher.queue.len() >= MAX_EVENTS {
                watcher.queue.pop_front();
                watcher.dropped += 1;
            }
            watcher.queue.push_back((event.clone(), about));
            self.woken.extend(watcher.waker.take());
        }
    }

    /// Wakes everybody: the node is closed.
    pub(super) fn close(&mut self) {
        self.woken.extend(self.watchers.values_mut().filter_map(|watcher| watcher.waker.take()));
    }
}

/// What happens to a node, from [`Node::events`] on, until it is dropped.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    id: u64,
}

impl Node {
    /// Watches the node. Each watcher gets every event; one that does not take them loses the
    /// oldest.
    ///
    /// # Errors
    /// The node is closed.
    pub fn events(&self) -> Result<Events, NodeError> {
        let inner = &self.inner;
        let id = inner.shared.look(|core| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let watchers = &mut core.watchers;
            watchers.last_id += 1;
            watchers.watchers.insert(watchers.last_id, Watcher::default());
            Ok(watchers.last_id)
        })?;
        Ok(Events { shared: inner.shared.clone(), resolver: inner.resolver.clone(), id })
    }
}

impl Events {
    /// The next event.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Result<NodeEvent, NodeError>> {
        let polled = self.shared.look(|core| {
            if core.is_closed {
                return Poll::Ready(Err(NodeError::Closed));
            }
            let watcher = core.watchers.watchers.entry(self.id).or_default();
            match watcher.queue.pop_front() {
                Some(event) => Poll::Ready(Ok(event)),
                None => {
                    watcher.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        polled.map_ok(|(mut event, about)| {
            if let NodeEvent::PathChanged { hostname, .. } = &mut event {
                *hostname = self.resolver.hostname_of(about);
            }
            event
        })
    }

    /// Events dropped because nobody took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let dropped = |watcher: &Watcher| watcher.dropped;
        self.shared.look(|core| core.watchers.watchers.get(&self.id).map_or(0, dropped))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.look(|core| core.watchers.watchers.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: PathKind) -> Route {
        Route { kind, endpoint: Some("192.0.2.1:4000".parse().unwrap()) }
    }

    #[test]
    fn each_watcher_sees_everything_and_a_slow_one_loses_the_oldest() {
        let mut watchers = Watchers::default();
        watchers.watchers.insert(1, Watcher::default());
        watchers.watchers.insert(2, Watcher::default());
        let now = Instant::now();
        for port in 0..u16::try_from(MAX_EVENTS).unwrap() + 3 {
            let observed = Some(SocketAddr::from(([192, 0, 2, 1], port)));
            watchers.network_changed(now, observed);
        }
        for watcher in watchers.watchers.values() {
            assert_eq!((watcher.queue.len(), watcher.dropped), (MAX_EVENTS, 3));
            let oldest = watcher.queue.front().map(|(event, _)| event);
            let Some(NodeEvent::NetworkChanged { observed, .. }) = oldest else { panic!() };
            assert_eq!(observed.map(|addr| addr.port()), Some(3));
        }
    }

    #[test]
    fn changes_are_counted_by_what_they_mean() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        let (direct, relay) = (route(PathKind::Direct), route(PathKind::Relay));
        let changes = [
            (None, relay),
            (Some(relay), direct),
            (Some(direct), direct),
            (Some(direct), relay),
            (Some(relay), direct),
        ];
        for (old, new) in changes {
            watchers.path_changed(now, NodeId(7), old, new);
        }
        let PathCounters { upgraded, lost, moved } = watchers.counters;
        assert_eq!((upgraded, lost, moved), (2, 1, 1));
        assert_eq!((watchers.since(NodeId(7)), watchers.since(NodeId(8))), (Some(now), None));
    }
}

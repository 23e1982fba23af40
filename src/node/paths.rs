//! How packets travel: what a node tells of its paths, and what its user wants of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::core::Core;
use super::messages::within;
use super::types::{PathKind, PeerRef, Pong};
use super::{Node, NodeError};
use crate::net::clock;
use crate::proto::path::{PathPolicy, PathReport, PathState, Via};
use crate::proto::pmtud::PathMtu;
use crate::wire::{Addr, NodeId};

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// From socket to socket, or by the relay.
    pub kind: PathKind,
    /// The UDP address they are sent to: the beacon's, when relayed.
    pub endpoint: Option<SocketAddr>,
}

/// One path to a peer.
#[derive(Clone, PartialEq, Debug)]
pub struct KnownPath {
    /// Where it leads.
    pub route: Route,
    /// What is known of it.
    pub state: PathState,
    /// It is the one in use.
    pub is_active: bool,
    /// Smoothed round-trip time, once measured.
    pub rtt: Option<Duration>,
    /// Share of frames lost of late, from 0 to 1, once measured.
    pub loss: Option<f32>,
    /// Bytes of UDP payload that it carries, once something large went there.
    pub mtu: Option<u16>,
    /// When the last authenticated frame came by it.
    pub last_received: Option<SystemTime>,
}

/// The paths to a peer.
#[derive(Clone, PartialEq, Debug)]
pub struct PathInfo {
    /// The peer.
    pub address: Addr,
    /// Our end of the path in use.
    pub local: SocketAddr,
    /// Since when it is in use, if it ever changed or was noticed.
    pub since: Option<SystemTime>,
    /// All that are known, the one in use first.
    pub paths: Vec<KnownPath>,
}

impl Node {
    /// How packets for a peer travel. Where there is no tunnel with it yet, one is made.
    ///
    /// # Errors
    /// The peer is unknown, or does not answer in time.
    pub async fn path(&self, peer: &PeerRef, timeout: Duration) -> Result<PathInfo, NodeError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let address = within(peer, "path", timeout, deadline, self.resolve(peer)).await?;
        if self.inner.shared.look(|core| !core.is_ready(address.node)) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let answered = self.ping(peer, left).await;
            answered.map_err(|error| match error {
                NodeError::Timeout { peer, .. } => {
                    NodeError::Timeout { peer, what: "path", after: timeout }
                }
                other => other,
            })?;
        }
        let main = self.local_addr();
        self.inner.shared.look(|core| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let local = core.local_end(address.node).unwrap_or(main);
            let since = core.watchers.since(address.node).map(date);
            Ok(PathInfo { address, local, since, paths: core.paths(address.node) })
        })
    }

    /// Says which paths may be used, and what for: with one peer, or with all that have no policy
    /// of their own.
    ///
    /// # Errors
    /// The policy leaves no path, or the peer is unknown.
    pub async fn set_path_policy(
        &self,
        peer: Option<&PeerRef>,
        policy: PathPolicy,
    ) -> Result<(), NodeError> {
        validate(&policy)?;
        // The endpoint has policies of peers that it knows.
        let node = match peer {
            None => None,
            Some(peer) => Some(self.resolve(peer).await?.node),
        };
        self.inner.shared.act(|core, _| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            core.endpoint.set_policy(node, policy);
            Ok(())
        })
    }

    /// A ping's answer, with what is known of the path that it took.
    pub(super) fn pong(&self, address: Addr, rtt: Duration, via: Via) -> Pong {
        let (route, known) = self.inner.shared.look(|core| {
            let known = core.paths(address.node);
            let route = core.describe(via);
            (route, known.into_iter().find(|path| path.route == route))
        });
        Pong {
            address,
            rtt,
            path: route.kind,
            endpoint: route.endpoint.unwrap_or_else(|| self.local_addr()),
            loss: known.as_ref().and_then(|path| path.loss),
            path_mtu: known.and_then(|path| path.mtu),
        }
    }
}

/// Whether anything can get through at all.
pub(super) fn validate(policy: &PathPolicy) -> Result<(), NodeError> {
    if policy.direct || policy.relay {
        return Ok(());
    }
    let reason = "a policy without direct paths and without the relay leaves no path";
    Err(NodeError::Invalid(reason.to_owned()))
}

impl Core {
    pub(super) fn describe(&self, via: Via) -> Route {
        match via {
            Via::Direct(remote) => Route { kind: PathKind::Direct, endpoint: Some(remote.addr) },
            Via::Relay => Route { kind: PathKind::Relay, endpoint: self.endpoint.beacon() },
        }
    }

    /// Whether there is a tunnel, and so a path.
    fn is_ready(&self, node: NodeId) -> bool {
        self.endpoint.peers().any(|(peer, state)| peer == node && state.tunnel().is_ready())
    }

    /// Our end of the path in use, if it is not the main socket.
    fn local_end(&self, node: NodeId) -> Option<SocketAddr> {
        let Via::Direct(remote) = self.endpoint.route(node)? else { return None };
        self.helpers.get(remote.socket).map(|udp| udp.local_addr())
    }

    /// What is known of the paths to a peer, the one in use first.
    fn paths(&self, node: NodeId) -> Vec<KnownPath> {
        let mut known: Vec<KnownPath> =
            self.endpoint.path_report(node).into_iter().map(|report| self.known(report)).collect();
        if !known.iter().any(|path| path.is_active) {
            known.insert(0, self.in_use(node));
        }
        known.sort_by_key(|path| !path.is_active);
        known
    }

    fn known(&self, report: PathReport) -> KnownPath {
        KnownPath {
            route: self.describe(report.via),
            state: report.state,
            is_active: report.is_active,
            rtt: report.rtt,
            loss: report.loss,
            mtu: report.mtu,
            last_received: report.last_received.map(date),
        }
    }

    /// The path in use, as the peer's tunnel knows it.
    fn in_use(&self, node: NodeId) -> KnownPath {
        let peer = self.endpoint.peers().find(|(peer, _)| *peer == node).map(|(_, peer)| peer);
        KnownPath {
            route: self.describe(self.endpoint.route(node).unwrap_or(Via::Relay)),
            state: PathState::Unknown,
            is_active: true,
            rtt: peer.and_then(|peer| peer.rtt()),
            loss: None,
            mtu: peer.and_then(|peer| peer.path_mtu()).map(PathMtu::size),
            last_received: None,
        }
    }
}

/// An instant as a date.
pub(super) fn date(at: Instant) -> SystemTime {
    UNIX_EPOCH + clock::unix_time().saturating_sub(clock::now().saturating_duration_since(at))
}

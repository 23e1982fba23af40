//! The node: one identity, one UDP socket, one rendezvous, and the verbs on them.
//!
//! | file | what |
//! |---|---|
//! | [`config`](NodeConfig), [`types`](PeerRef), [`error`](NodeError) | values of the API |
//! | `core`, `driver` | the endpoint behind its lock; the task that receives and keeps time |
//! | `waiting` | who waits for what, and is woken after the lock |
//! | `stream` | handles of streams and listeners |
//! | `messages`, `calls` | send and request: as futures, and for event loops |
//! | `attend` | an event loop that receives, and sends in batches |
//! | `sockets` | those beside the main one, while it punches through a NAT |
//! | `resolver` | from a name to a peer, with pins |
//! | `carrier` | UDP or, where that is blocked, a WebSocket to the beacon |
//! | `rendezvous`, `membership` | which registry; staying registered; hosting the embedded one |
//! | `first_look`, `whereabouts`, `network` | where this node is, and telling others of it |
//! | `nat_probe`, `port_mapping` | what the NAT does, and what it is asked to do |
//! | `services` | what a node offers by itself: echo, data exchange, trust handshake |
//! | `simulate` | bad networks between the endpoint and the socket, for tests |
//! | `paths`, `events` | how packets travel, what is wanted of that, and when it changes |
//! | `trust` | who may reach this node while it is private |

mod attend;
mod calls;
mod carrier;
mod config;
mod core;
mod datagrams;
mod driver;
mod error;
mod events;
mod fair_lock;
mod first_look;
mod heap;
mod membership;
mod messages;
mod nat_probe;
mod network;
mod paths;
mod port_mapping;
mod rendezvous;
mod resolver;
mod services;
mod simulate;
mod sockets;
mod start;
mod stream;
mod trust;
mod types;
mod views;
mod waiting;
mod whereabouts;

use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use attend::Visit;
pub use calls::{Begun, Progress, Sink};
pub use config::NodeConfig;
pub use datagrams::DatagramPort;
pub use error::NodeError;
pub use events::{Events, NodeEvent};
pub use membership::VERSION;
pub use paths::{KnownPath, PathInfo, Route};
pub use rendezvous::{EMBEDDED_PORT, RendezvousSpec};
pub use simulate::{
    BadNetwork, Block, Direction, LinkCounters, LinkParams, Loss, Simulation, SimulationCounters,
};
pub use stream::{Listener, NodeStream};
pub use types::*;

use self::core::Shared;
use crate::crypto::StoredIdentity;
use crate::proto::path::TrafficClass;
use crate::wire::Addr;
use membership::Membership;
use messages::{Messages, impostor_error, within};
use resolver::Resolver;

/// How long `close` waits for written data to be acknowledged.
const CLOSE_LINGER: Duration = Duration::from_secs(3);

/// A running node; clones share it. Nothing here blocks, and every future may be dropped.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NodeConfig,
    spec: RendezvousSpec,
    /// Keeps the identity locked.
    _stored: Option<StoredIdentity>,
    public_key: [u8; 32],
    started: std::time::Instant,
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    trust: Arc<trust::Trust>,
    membership: Arc<Membership>,
    held_port: port_mapping::HeldPort,
    messages: Messages,
    tasks: Mutex<JoinSet<()>>,
}

impl Node {
    /// Starts a node: identity, socket, registration, services.
    ///
    /// # Errors
    /// Every [`NodeError`] that says what stands in the way.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        start::start(config).await
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Addr {
        Addr::global(self.inner.shared.look(|core| core.endpoint.node()))
    }

    /// Its hostname, as configured.
    #[must_use]
    pub fn hostname(&self) -> Option<String> {
        self.inner.config.hostname.clone()
    }

    /// Its Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.inner.public_key
    }

    /// Its UDP socket.
    #[must_use]
    pub fn local_addr(&self) -> std::net::SocketAddr {
        self.inner.shared.udp.local_addr()
    }

    /// The address of a peer.
    ///
    /// # Errors
    /// It is unknown, private, or its key is not the pinned one.
    pub async fn resolve(&self, peer: &PeerRef) -> Result<Addr, NodeError> {
        self.inner.resolver.resolve(peer).await.map(|target| target.addr)
    }

    /// Sends a message; returns when it is in the peer's inbox.
    ///
    /// # Errors
    /// Why it is not known to have arrived.
    ///
    /// # Cancel safety
    /// A dropped send may or may not arrive.
    pub async fn send(
        &self,
        peer: &PeerRef,
        payload: Payload,
        timeout: Duration,
    ) -> Result<(), NodeError> {
        self.inner.messages.send(peer, payload, timeout).await
    }

    /// Sends a file by data exchange; it lands in the peer's inbox directory under its base name.
    ///
    /// # Errors
    /// It cannot be read, is too large, or does not arrive.
    pub async fn send_file(
        &self,
        peer: &PeerRef,
        path: &Path,
        timeout: Duration,
    ) -> Result<(), NodeError> {
        let deadline = Instant::now() + timeout;
        let Inner { shared, resolver, .. } = &*self.inner;
        let sending = services::data::send_file(shared, resolver, peer, path);
        within(peer, "send_file", timeout, deadline, sending)
            .await
            .map_err(|error| resolver.blame_privacy(peer, error))
    }

    /// Sends a request and returns the reply, and who gave it.
    ///
    /// # Errors
    /// Why there is no reply.
    ///
    /// # Cancel safety
    /// A dropped request is withdrawn if the peer has not begun to handle it.
    pub async fn request(
        &self,
        peer: &PeerRef,
        payload: Payload,
        timeout: Duration,
    ) -> Result<(Addr, Payload), NodeError> {
        self.inner.messages.request(peer, payload, timeout).await
    }

    /// The next message, if one waits.
    ///
    /// # Errors
    /// [`NodeError::Closed`].
    pub fn try_message(&self) -> Result<Option<Message>, NodeError> {
        Ok(self.try_messages(1)?.pop())
    }

    /// As [`try_message`](Self::try_message), waiting.
    pub fn poll_message(&self, cx: &mut Context<'_>) -> Poll<Result<Message, NodeError>> {
        self.poll_messages(cx, 1)
            .map(|taken| taken.and_then(|mut taken| taken.pop().ok_or(NodeError::Closed)))
    }

    /// The next request, if one waits and [`set_serving`](Self::set_serving) is on.
    ///
    /// # Errors
    /// [`NodeError::Closed`].
    pub fn try_request(&self) -> Result<Option<Request>, NodeError> {
        Ok(self.try_requests(1)?.pop())
    }

    /// As [`try_request`](Self::try_request), waiting.
    pub fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Result<Request, NodeError>> {
        self.poll_requests(cx, 1)
            .map(|taken| taken.and_then(|mut taken| taken.pop().ok_or(NodeError::Closed)))
    }

    /// Says whether somebody takes requests here. Without it they are refused.
    pub fn set_serving(&self, is_serving: bool) {
        self.inner.shared.act(|core, _| core.messenger.set_serving(is_serving));
    }

    /// Answers a request; `Err` tells the requester why there is no answer.
    ///
    /// # Errors
    /// The reply is too large, or the node is closed.
    pub fn reply(&self, ticket: u64, result: Result<Payload, String>) -> Result<(), NodeError> {
        let gathers = self.reply_gathering(ticket, result)?;
        if gathers {
            self.send_gathered();
        }
        Ok(())
    }

    /// Opens a stream to a port of a peer; returns when the peer has accepted it.
    ///
    /// # Errors
    /// Why there is no stream.
    pub async fn open_stream(
        &self,
        peer: &PeerRef,
        port: u16,
        nodelay: bool,
        timeout: Duration,
    ) -> Result<NodeStream, NodeError> {
        self.open_stream_for(TrafficClass::Normal, peer, port, nodelay, timeout).await
    }

    /// As [`open_stream`](Self::open_stream), for another class of traffic.
    ///
    /// # Errors
    /// Why there is no stream.
    pub async fn open_stream_for(
        &self,
        class: TrafficClass,
        peer: &PeerRef,
        port: u16,
        nodelay: bool,
        timeout: Duration,
    ) -> Result<NodeStream, NodeError> {
        let deadline = Instant::now() + timeout;
        let Inner { shared, resolver, .. } = &*self.inner;
        let opening = open(shared, resolver, class, peer, port, nodelay);
        within(peer, "open_stream", timeout, deadline, opening)
            .await
            .map_err(|error| self.blame_impostor(peer, error))
            .map_err(|error| resolver.blame_privacy(peer, error))
    }

    /// Accepts streams on `port`.
    ///
    /// # Errors
    /// Somebody does already.
    pub fn listen(&self, port: u16) -> Result<Listener, NodeError> {
        Listener::bind(&self.inner.shared, port)
    }

    /// Asks a peer's node for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self, peer: &PeerRef, timeout: Duration) -> Result<Pong, NodeError> {
        let deadline = Instant::now() + timeout;
        let pinging = async {
            let addr = self.resolve(peer).await?;
            loop {
                let answer = self.inner.shared.act(|core, now| {
                    if core.is_closed {
                        return Err(NodeError::Closed);
                    }
                    let token = core.endpoint.ping(now, addr.node).ok_or_else(|| {
                        NodeError::PeerUnreachable {
                            peer: peer.to_string(),
                            reason: "too many pings wait for an answer".to_owned(),
                        }
                    })?;
                    let (sender, receiver) = oneshot::channel();
                    core.pings.insert(token, sender);
                    Ok(receiver)
                })?;
                // A ping is a datagram and may be lost.
                let again = tokio::time::timeout(Duration::from_secs(1), answer).await;
                if let Ok(answer) = again {
                    return answer
                        .map(|(rtt, via)| (addr, rtt, via))
                        .map_err(|_| NodeError::Closed);
                }
            }
        };
        let (address, rtt, via) = within(peer, "ping", timeout, deadline, pinging)
            .await
            .map_err(|error| self.blame_impostor(peer, error))?;
        Ok(self.pong(address, rtt, via))
    }

    /// Sends a datagram: once, unordered, perhaps lost.
    ///
    /// # Errors
    /// The peer is unknown, or the datagram too large to send anywhere.
    pub async fn send_datagram(
        &self,
        peer: &PeerRef,
        src_port: u16,
        port: u16,
        data: &[u8],
    ) -> Result<(), NodeError> {
        let target = self.inner.resolver.resolve(peer).await?;
        datagrams::send(&self.inner.shared, target.addr, src_port, port, data)
    }

    /// Receives datagrams on `port`.
    ///
    /// # Errors
    /// Somebody does already.
    pub fn bind_datagrams(&self, port: u16) -> Result<DatagramPort, NodeError> {
        DatagramPort::bind(&self.inner.shared, port)
    }

    /// Lets every agent find this one, or only those it trusts.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn set_public(&self, is_public: bool) -> Result<(), NodeError> {
        let node = self.address().node;
        self.inner.membership.update(node, |profile| profile.is_public = is_public).await?;
        self.inner.shared.act(|core, _| core.endpoint.set_private(!is_public));
        Ok(())
    }

    /// Replaces what others find this agent by.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn set_capabilities(&self, capabilities: Vec<String>) -> Result<(), NodeError> {
        let node = self.address().node;
        self.inner.membership.update(node, |profile| profile.capabilities = capabilities).await
    }

    /// Drops the pinned key of a peer; `true` if there was one.
    #[must_use]
    pub fn forget(&self, peer: &PeerRef) -> bool {
        self.inner.resolver.forget(peer)
    }

    /// Closes the node: what was written is delivered (for at most 3 s), everything that waits
    /// ends with [`NodeError::Closed`], and no task of it is left.
    pub async fn close(&self) {
        let inner = &self.inner;
        if inner.shared.look(|core| core.is_closed) {
            return;
        }
        let drained = poll_fn(|cx| stream::poll_all_drained(&inner.shared, cx));
        // Undelivered data must not keep a program from ending.
        let _ = tokio::time::timeout(CLOSE_LINGER, drained).await;
        inner.shared.close();
        inner.trust.wake();
        tokio::join!(inner.membership.leave(self.address().node), inner.held_port.release());
        let mut tasks =
            std::mem::take(&mut *inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    fn blame_impostor(&self, peer: &PeerRef, error: NodeError) -> NodeError {
        let PeerRef::Node(node) = peer else { return error };
        match self.inner.shared.look(|core| core.impostors.get(node).copied()) {
            Some(presented) if matches!(error, NodeError::Timeout { .. }) => {
                impostor_error(peer, &presented)
            }
            _ => error,
        }
    }
}

/// Opens a stream and waits until the peer has accepted it.
async fn open(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    class: TrafficClass,
    peer: &PeerRef,
    port: u16,
    nodelay: bool,
) -> Result<NodeStream, NodeError> {
    let target = resolver.resolve(peer).await?;
    let stream = shared.act(|core, now| {
        if core.is_closed {
            return Err(NodeError::Closed);
        }
        let id = core.endpoint.connect(now, target.addr, port, nodelay).map_err(|error| {
            NodeError::PeerUnreachable { peer: peer.to_string(), reason: error.to_string() }
        })?;
        core.endpoint.set_class(id, class);
        NodeStream::new(shared, core, id).ok_or(NodeError::Closed)
    })?;
    let connected = poll_fn(|cx| stream.poll_connected(cx)).await;
    if let Err(NodeError::PeerUnreachable { .. }) = connected {
        resolver.expire(target.addr.node);
    }
    connected.map(|()| stream)
}

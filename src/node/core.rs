//! The endpoint behind its lock, and who waits for what.
//!
//! Every verb goes through [`Shared::act`]: lock, do it, send what follows, unlock, wake whoever
//! must be woken. So a write from an application thread leaves the machine on that thread, without
//! a hop to the driver; and nothing is ever woken, and no user code run, under the lock.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::types::Datagram;
use crate::net::clock;
use crate::net::udp::UdpIo;
use crate::proto::endpoint::{Endpoint, EndpointEvent, StreamId, Transmit};
use crate::proto::messenger::Messenger;
use crate::proto::path::Via;
use crate::proto::stream::StreamEvent;
use crate::wire::NodeId;

/// Runs of datagrams sent in one turn before others get the lock.
const RUNS_PER_TURN: usize = 64;
/// Datagrams kept for an application that does not fetch them; the oldest is dropped.
const DATAGRAM_QUEUE: usize = 4_096;

/// What the protocol asks of the node's upkeep task.
#[derive(Debug)]
pub(super) enum Upcall {
    /// Ask the registry for this peer.
    NeedPeer(NodeId),
    /// Somebody claims to be this node with another key.
    IdentityMismatch { node: NodeId, presented: [u8; 32] },
    /// The record of this peer may be out of date.
    PeerLost(NodeId),
    /// A trust handshake waits at the registry.
    HandshakeWaiting,
}

/// Who waits for a stream.
#[derive(Debug, Default)]
pub(super) struct StreamWaiters {
    pub(super) read: Option<Waker>,
    pub(super) write: Option<Waker>,
    pub(super) other: Vec<Waker>,
}

impl StreamWaiters {
    fn take_all(&mut self, into: &mut Vec<Waker>) {
        into.extend(self.read.take());
        into.extend(self.write.take());
        into.append(&mut self.other);
    }
}

/// Datagrams that wait for the application.
#[derive(Debug, Default)]
pub(super) struct DatagramQueue {
    pub(super) queue: VecDeque<Datagram>,
    pub(super) waker: Option<Waker>,
    pub(super) dropped: u64,
}

/// Who waits for messages and requests.
#[derive(Debug, Default)]
pub(super) struct InboxWaiters {
    pub(super) message: Vec<Waker>,
    pub(super) request: Vec<Waker>,
}

/// Everything under the lock.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) endpoint: Endpoint,
    pub(super) messenger: Messenger,
    pub(super) streams: HashMap<StreamId, StreamWaiters>,
    /// Streams for whose last acknowledgement somebody waits.
    pub(super) draining: Vec<StreamId>,
    pub(super) acceptors: HashMap<u16, Option<Waker>>,
    pub(super) datagrams: HashMap<u16, DatagramQueue>,
    pub(super) pings: HashMap<u64, oneshot::Sender<(Duration, Via)>>,
    pub(super) inbox: InboxWaiters,
    pub(super) observed: Option<std::net::SocketAddr>,
    pub(super) is_closed: bool,
    upcalls: mpsc::UnboundedSender<Upcall>,
    run: Vec<u8>,
    blocked: Option<Transmit>,
    /// When the driver will wake by itself; an earlier deadline must wake it.
    driver_wakes: Option<Instant>,
}

impl Core {
    pub(super) fn new(
        endpoint: Endpoint,
        messenger: Messenger,
        upcalls: mpsc::UnboundedSender<Upcall>,
    ) -> Self {
        Self {
            endpoint,
            messenger,
            streams: HashMap::new(),
            draining: Vec::new(),
            acceptors: HashMap::new(),
            datagrams: HashMap::new(),
            pings: HashMap::new(),
            inbox: InboxWaiters::default(),
            observed: None,
            is_closed: false,
            upcalls,
            run: Vec::with_capacity(64 << 10),
            blocked: None,
            driver_wakes: None,
        }
    }

    /// Does what follows from the inputs: events, then datagrams, until neither is left.
    fn turn(&mut self, now: Instant, udp: &UdpIo, wake: &mut Vec<Waker>) {
        for _ in 0..RUNS_PER_TURN {
            self.dispatch(now, wake);
            let transmit = match self.blocked.take() {
                Some(transmit) => transmit,
                None => match self.endpoint.poll_transmit(now, &mut self.run) {
                    Some(transmit) => transmit,
                    None => break,
                },
            };
            let sent = udp.try_send(transmit.destination, &self.run, transmit.segment_size);
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.blocked = Some(transmit);
                break;
            }
        }
        self.dispatch(now, wake);
        let endpoint = &self.endpoint;
        let streams = &mut self.streams;
        self.draining.retain(|id| {
            let is_over = endpoint.stream(*id).is_none_or(|s| s.is_drained() || s.is_finished());
            if is_over && let Some(waiters) = streams.get_mut(id) {
                wake.append(&mut waiters.other);
            }
            !is_over
        });
    }

    fn dispatch(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        while let Some(event) = self.endpoint.poll_event() {
            self.on_event(now, event, wake);
        }
        if self.messenger.has_message() {
            wake.append(&mut self.inbox.message);
        }
        if self.messenger.has_request() {
            wake.append(&mut self.inbox.request);
        }
    }

    fn on_event(&mut self, now: Instant, event: EndpointEvent, wake: &mut Vec<Waker>) {
        match event {
            EndpointEvent::Stream(id, event) => {
                if !self.messenger.handle_stream(now, &mut self.endpoint, id, event) {
                    self.wake_stream(id, event, wake);
                }
            }
            EndpointEvent::Incoming(port) => {
                if !self.messenger.handle_incoming(now, &mut self.endpoint, port)
                    && let Some(acceptor) = self.acceptors.get_mut(&port)
                {
                    wake.extend(acceptor.take());
                }
            }
            EndpointEvent::Datagram { from, src_port, dst_port, payload } => {
                if let Some(queue) = self.datagrams.get_mut(&dst_port) {
                    if queue.queue.len() >= DATAGRAM_QUEUE {
                        queue.queue.pop_front();
                        queue.dropped += 1;
                    }
                    let data = Bytes::from(payload);
                    queue.queue.push_back(Datagram { sender: from, port: src_port, data });
                    wake.extend(queue.waker.take());
                }
            }
            EndpointEvent::Pong { token, rtt, via, .. } => {
                if let Some(waiter) = self.pings.remove(&token) {
                    let _ = waiter.send((rtt, via));
                }
            }
            EndpointEvent::NeedPeer(node) => self.upcall(Upcall::NeedPeer(node)),
            EndpointEvent::IdentityMismatch { node, presented } => {
                self.upcall(Upcall::IdentityMismatch { node, presented });
            }
            EndpointEvent::PeerUnreachable(node) | EndpointEvent::PeerRestarted(node) => {
                self.upcall(Upcall::PeerLost(node));
            }
            EndpointEvent::HandshakeWaiting => self.upcall(Upcall::HandshakeWaiting),
            EndpointEvent::Observed(endpoint) => self.observed = Some(endpoint),
            EndpointEvent::PeerReady(_) => {}
        }
    }

    fn wake_stream(&mut self, id: StreamId, event: StreamEvent, wake: &mut Vec<Waker>) {
        let Some(waiters) = self.streams.get_mut(&id) else { return };
        match event {
            StreamEvent::Readable => wake.extend(waiters.read.take()),
            StreamEvent::Writable => wake.extend(waiters.write.take()),
            StreamEvent::Connected | StreamEvent::Closed(_) => waiters.take_all(wake),
        }
    }

    fn upcall(&self, upcall: Upcall) {
        // The upkeep task ends only when the node closes.
        let _ = self.upcalls.send(upcall);
    }

    /// Ends everything that waits.
    pub(super) fn close(&mut self, wake: &mut Vec<Waker>) {
        self.is_closed = true;
        for waiters in self.streams.values_mut() {
            waiters.take_all(wake);
        }
        for acceptor in self.acceptors.values_mut() {
            wake.extend(acceptor.take());
        }
        for queue in self.datagrams.values_mut() {
            wake.extend(queue.waker.take());
        }
        wake.append(&mut self.inbox.message);
        wake.append(&mut self.inbox.request);
        self.pings.clear();
        self.messenger.close();
    }
}

/// What the node's handles and tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) udp: UdpIo,
    /// Rings the driver.
    bell: Notify,
}

impl Shared {
    pub(super) fn new(core: Core, udp: UdpIo) -> Self {
        Self { core: Mutex::new(core), udp, bell: Notify::new() }
    }

    /// Does something to the core, and everything that follows from it.
    pub(super) fn act<T>(&self, verb: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let mut wake = Vec::new();
        let mut core = self.lock();
        let now = clock::now();
        let result = verb(&mut core, now);
        core.turn(now, &self.udp, &mut wake);
        let deadline = core.next_deadline();
        let ring = core.blocked.is_some()
            || deadline.is_some_and(|at| core.driver_wakes.is_none_or(|wakes| at < wakes));
        if ring {
            // Once is enough until the driver has looked.
            core.driver_wakes = deadline;
        }
        drop(core);
        for waker in wake {
            waker.wake();
        }
        if ring {
            self.bell.notify_one();
        }
        result
    }

    /// Looks at the core without changing what the protocol does next.
    pub(super) fn look<T>(&self, view: impl FnOnce(&mut Core) -> T) -> T {
        view(&mut self.lock())
    }

    pub(super) fn close(&self) {
        let mut wake = Vec::new();
        self.lock().close(&mut wake);
        for waker in wake {
            waker.wake();
        }
    }

    /// For the driver: until when to sleep, and whether to wait for room in the socket.
    pub(super) fn sleep_until(&self) -> (Option<Instant>, bool) {
        let mut core = self.lock();
        let deadline = core.next_deadline();
        core.driver_wakes = deadline;
        (deadline, core.blocked.is_some())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock is a bug that is reported where it happened; the state machine
        // itself stays usable, as every verb leaves it consistent.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn next_deadline(&mut self) -> Option<Instant> {
        [self.endpoint.poll_timeout(), self.messenger.poll_timeout()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.messenger.handle_timeout(now, &mut self.endpoint);
    }
}

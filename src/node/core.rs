//! The endpoint behind its lock, and who waits for what.
//!
//! Every verb goes through [`Shared::act`]: lock, do it, send what follows, unlock, wake whoever
//! must be woken. So a write from an application thread leaves the machine on that thread, without
//! a hop to the driver; and nothing is ever woken, and no user code run, under the lock.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::attend::{Attendance, Leave};
use super::carrier::Detour;
use super::events::Watchers;
use super::fair_lock::FairLock;
use super::simulate::Simulator;
use super::sockets::{Helpers, SocketOrder};
use super::types::Datagram;
use super::waiting::{DatagramQueue, Effects, Inbox, StreamWaiters, Waiter};
use crate::net::clock;
use crate::net::udp::{RecvBatch, UdpIo, is_too_large};
use crate::proto::endpoint::{Endpoint, EndpointEvent, StreamId, Transmit};
use crate::proto::messenger::Messenger;
use crate::proto::path::{Remote, SocketId, Via};
use crate::proto::stream::StreamEvent;
use crate::wire::NodeId;

/// Runs of datagrams sent in one turn.
const RUNS_PER_TURN: usize = 64;
/// The same while somebody waits for the lock: a run takes some 10 microseconds to make and send.
const RUNS_WHILE_WANTED: usize = 4;
/// Datagrams kept for an application that does not fetch them; the oldest is dropped.
const DATAGRAM_QUEUE: usize = 4_096;

/// Impostors remembered, to explain why a peer cannot be reached.
const MAX_IMPOSTORS: usize = 1_024;

/// What the protocol asks of the node's upkeep task.
#[derive(Debug)]
pub(super) enum Upcall {
    /// Ask the registry for this peer.
    NeedPeer(NodeId),
    /// The record of this peer may be out of date.
    PeerLost(NodeId),
    /// A trust handshake waits at the registry.
    HandshakeWaiting,
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
    pub(super) inbox: Inbox,
    /// Who waits for what was sent, by the number of its ticket.
    pub(super) outcomes: HashMap<u64, Waiter>,
    /// The event loop that receives and sends in batches, if there is one.
    pub(super) attendance: Attendance,
    /// Keys that somebody presented for a node they do not belong to.
    pub(super) impostors: HashMap<NodeId, [u8; 32]>,
    /// Where the beacon sees us. Told at each answer, also if it is the same as before.
    pub(super) observed: watch::Sender<Option<std::net::SocketAddr>>,
    pub(super) watchers: Watchers,
    pub(super) is_closed: bool,
    /// The bad network that the user wants to be in, if any.
    pub(super) simulator: Option<Box<Simulator>>,
    /// What takes datagrams for the beacon off UDP.
    pub(super) detour: Detour,
    /// Sockets beside the main one.
    pub(super) helpers: Helpers,
    socket_orders: mpsc::UnboundedSender<SocketOrder>,
    upcalls: mpsc::UnboundedSender<Upcall>,
    run: Vec<u8>,
    blocked: Option<Transmit>,
    /// The last turn ended before everything was sent.
    has_more: bool,
    /// When the driver will wake by itself; an earlier deadline must wake it.
    driver_wakes: Option<Instant>,
}

impl Core {
    pub(super) fn new(
        endpoint: Endpoint,
        messenger: Messenger,
        upcalls: mpsc::UnboundedSender<Upcall>,
        socket_orders: mpsc::UnboundedSender<SocketOrder>,
    ) -> Self {
        Self {
            endpoint,
            messenger,
            streams: HashMap::new(),
            draining: Vec::new(),
            acceptors: HashMap::new(),
            datagrams: HashMap::new(),
            pings: HashMap::new(),
            inbox: Inbox::default(),
            outcomes: HashMap::new(),
            attendance: Attendance::default(),
            impostors: HashMap::new(),
            observed: watch::Sender::new(None),
            watchers: Watchers::default(),
            is_closed: false,
            simulator: None,
            detour: Detour::default(),
            helpers: Helpers::default(),
            socket_orders,
            upcalls,
            run: Vec::with_capacity(64 << 10),
            blocked: None,
            has_more: false,
            driver_wakes: None,
        }
    }

    /// Does what follows from the inputs: events, then datagrams, until neither is left.
    fn turn(&mut self, now: Instant, shared: &Shared, effects: &mut Effects) {
        let udp = &shared.udp;
        self.deliver(now);
        self.has_more = true;
        for runs in 0..RUNS_PER_TURN {
            if runs >= RUNS_WHILE_WANTED && shared.core.is_wanted() {
                break;
            }
            self.dispatch(now, effects);
            let transmit = match self.blocked.take() {
                Some(transmit) => transmit,
                None => match self.poll_transmit(now) {
                    Some(transmit) => transmit,
                    None => {
                        self.has_more = false;
                        break;
                    }
                },
            };
            let sent = match transmit.destination {
                Remote { socket: SocketId::MAIN, addr } if self.is_detoured(addr) => {
                    Ok(self.detour.push(&self.run, transmit.segment_size))
                }
                Remote { socket: SocketId::MAIN, addr } => {
                    udp.try_send(addr, &self.run, transmit.segment_size)
                }
                _ => self.helpers.try_send(&transmit, &self.run),
            };
            match sent {
                Ok(taken) if taken < self.run.len() => {
                    self.run.drain(..taken);
                    self.blocked = Some(transmit);
                    self.has_more = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = Some(transmit);
                    self.has_more = false;
                    break;
                }
                Err(error) if is_too_large(&error) => {
                    self.endpoint.handle_refused(now, transmit.segment_size);
                }
                _ => {}
            }
        }
        self.conclude(now, effects);
    }

    /// Whether datagrams for `addr` do not go by UDP.
    fn is_detoured(&self, addr: std::net::SocketAddr) -> bool {
        self.detour.is_on() && self.endpoint.beacon() == Some(addr)
    }

    /// Events, and who waits for acknowledgements.
    fn conclude(&mut self, now: Instant, effects: &mut Effects) {
        self.dispatch(now, effects);
        let endpoint = &self.endpoint;
        let streams = &mut self.streams;
        self.draining.retain(|id| {
            let is_over = endpoint.stream(*id).is_none_or(|s| s.is_drained() || s.is_finished());
            if is_over && let Some(waiters) = streams.get_mut(id) {
                effects.wake.append(&mut waiters.other);
            }
            !is_over
        });
    }

    fn dispatch(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(event) = self.endpoint.poll_event() {
            self.on_event(now, event, effects);
        }
        while let Some((number, outcome)) = self.messenger.poll_outcome() {
            if let Some(waiter) = self.outcomes.remove(&number) {
                effects.outcomes.push((waiter, number, Some(outcome)));
            }
        }
        if self.messenger.has_message() || !self.inbox.foreign.is_empty() {
            effects.wake.append(&mut self.inbox.message);
        }
        if self.messenger.has_request() {
            effects.wake.append(&mut self.inbox.request);
        }
        effects.wake.append(&mut self.watchers.woken);
        if std::mem::take(&mut self.inbox.has_room) {
            effects.wake.append(&mut self.inbox.room);
        }
    }

    fn on_event(&mut self, now: Instant, event: EndpointEvent, effects: &mut Effects) {
        match event {
            EndpointEvent::Stream(id, event) => {
                if !self.messenger.handle_stream(now, &mut self.endpoint, id, event) {
                    self.wake_stream(id, event, effects);
                }
            }
            EndpointEvent::Incoming(port) => {
                if !self.messenger.handle_incoming(now, &mut self.endpoint, port)
                    && let Some(acceptor) = self.acceptors.get_mut(&port)
                {
                    effects.wake.extend(acceptor.take());
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
                    effects.wake.extend(queue.waker.take());
                }
            }
            EndpointEvent::Pong { token, rtt, via, .. } => {
                if let Some(waiter) = self.pings.remove(&token) {
                    let _ = waiter.send((rtt, via));
                }
            }
            EndpointEvent::NeedPeer(node) => self.upcall(Upcall::NeedPeer(node)),
            EndpointEvent::IdentityMismatch { node, presented } => {
                if self.impostors.len() < MAX_IMPOSTORS {
                    self.impostors.insert(node, presented);
                }
            }
            EndpointEvent::PeerUnreachable(node) | EndpointEvent::PeerRestarted(node) => {
                self.upcall(Upcall::PeerLost(node));
            }
            EndpointEvent::HandshakeWaiting => self.upcall(Upcall::HandshakeWaiting),
            EndpointEvent::Observed(endpoint) => {
                self.detour.answered();
                self.observed.send_replace(Some(endpoint));
            }
            EndpointEvent::PathChanged { node, from, to } => {
                if to == Via::Relay {
                    self.detour.suspect();
                }
                let (old, new) = (from.map(|via| self.describe(via)), self.describe(to));
                self.watchers.path_changed(now, node, old, new);
            }
            EndpointEvent::OpenSockets { first, count } => {
                self.order(SocketOrder::Open { first, count });
            }
            EndpointEvent::CloseSockets { first, count } => {
                self.order(SocketOrder::Close { first, count });
            }
            EndpointEvent::PeerReady(_) => {}
        }
    }

    fn wake_stream(&mut self, id: StreamId, event: StreamEvent, effects: &mut Effects) {
        let Some(waiters) = self.streams.get_mut(&id) else { return };
        match event {
            StreamEvent::Readable => effects.wake.extend(waiters.read.take()),
            StreamEvent::Writable => effects.wake.extend(waiters.write.take()),
            StreamEvent::Connected | StreamEvent::Closed(_) => waiters.take_all(&mut effects.wake),
        }
    }

    fn upcall(&self, upcall: Upcall) {
        // The upkeep task ends only when the node closes.
        let _ = self.upcalls.send(upcall);
    }

    pub(super) fn order(&self, order: SocketOrder) {
        // The task that keeps the sockets ends only when the node closes.
        let _ = self.socket_orders.send(order);
    }

    /// Ends everything that waits.
    fn close(&mut self, effects: &mut Effects) {
        self.is_closed = true;
        self.helpers.clear();
        for waiters in self.streams.values_mut() {
            waiters.take_all(&mut effects.wake);
        }
        for acceptor in self.acceptors.values_mut() {
            effects.wake.extend(acceptor.take());
        }
        for queue in self.datagrams.values_mut() {
            effects.wake.extend(queue.waker.take());
        }
        effects.wake.append(&mut self.inbox.message);
        effects.wake.append(&mut self.inbox.request);
        effects.wake.append(&mut self.inbox.room);
        self.watchers.close();
        effects.wake.append(&mut self.watchers.woken);
        self.pings.clear();
        effects
            .outcomes
            .extend(self.outcomes.drain().map(|(number, waiter)| (waiter, number, None)));
        self.messenger.close();
    }
}

/// What the node's handles and tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    core: FairLock<Core>,
    pub(super) udp: Arc<UdpIo>,
    /// Held while what was received is handed in, so that no thread overtakes another.
    batch: Mutex<RecvBatch>,
    /// Rings the driver.
    bell: Notify,
}

/// How long the driver may sleep.
#[derive(Clone, Debug)]
pub(super) struct Sleep {
    pub(super) deadline: Option<Instant>,
    /// This socket has no room.
    pub(super) blocked: Option<Arc<UdpIo>>,
    /// Somebody else receives until the deadline at least.
    pub(super) is_attended: bool,
}

impl Shared {
    pub(super) fn new(core: Core, udp: UdpIo) -> Self {
        let udp = Arc::new(udp);
        Self { core: FairLock::new(core), udp, batch: Mutex::default(), bell: Notify::new() }
    }

    /// Does something to the core, and everything that follows from it.
    pub(super) fn act<T>(&self, verb: impl FnOnce(&mut Core, Instant) -> T) -> T {
        self.act_and(|_, _| false, verb)
    }

    /// As [`act`](Self::act), but while the attending loop gathers, what is to be sent waits.
    pub(super) fn act_gathering<T>(&self, verb: impl FnOnce(&mut Core, Instant) -> T) -> T {
        self.act_and(|core, now| core.attendance.is_gathering(now), verb)
    }

    /// As [`act_gathering`](Self::act_gathering), for what the loop wants sent; `true` if it must
    /// call [`Node::send_gathered`](super::Node::send_gathered) soon.
    pub(super) fn act_for_loop<T>(&self, verb: impl FnOnce(&mut Core, Instant) -> T) -> (T, bool) {
        let mut leave = Leave::Now;
        let result = self.act_and(
            |core, now| {
                leave = core.attendance.verb(now);
                leave != Leave::Now
            },
            verb,
        );
        (result, leave == Leave::First)
    }

    fn act_and<T>(
        &self,
        gathers: impl FnOnce(&mut Core, Instant) -> bool,
        verb: impl FnOnce(&mut Core, Instant) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let mut core = self.lock();
        let now = clock::now();
        let result = verb(&mut core, now);
        if gathers(&mut core, now) {
            core.conclude(now, &mut effects);
        } else {
            core.turn(now, self, &mut effects);
        }
        let deadline = core.next_deadline();
        let ring = core.blocked.is_some()
            || core.has_more
            || deadline.is_some_and(|at| core.driver_wakes.is_none_or(|wakes| at < wakes));
        if ring {
            // Once is enough until the driver has looked.
            core.driver_wakes = deadline;
        }
        drop(core);
        effects.carry_out();
        if ring {
            self.ring();
        }
        result
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Looks at the core without changing what the protocol does next.
    pub(super) fn look<T>(&self, view: impl FnOnce(&mut Core) -> T) -> T {
        view(&mut self.lock())
    }

    pub(super) fn close(&self) {
        let mut effects = Effects::default();
        self.lock().close(&mut effects);
        effects.carry_out();
    }

    /// Receives once, and does what follows.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub(super) fn receive(&self) -> io::Result<()> {
        self.receive_from(&self.udp, SocketId::MAIN)
    }

    /// The same, from any of the node's sockets.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub(super) fn receive_from(&self, udp: &UdpIo, socket: SocketId) -> io::Result<()> {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        udp.try_recv(&mut batch)?;
        self.act(|core, now| core.take_in(now, socket, &mut batch));
        Ok(())
    }

    /// Where datagrams are received into, unless another thread is at it.
    pub(super) fn try_batch(&self) -> Option<MutexGuard<'_, RecvBatch>> {
        self.batch.try_lock().ok()
    }

    /// For the driver: until when to sleep, and what else to wait for.
    pub(super) fn sleep_until(&self) -> Sleep {
        let mut core = self.lock();
        let attended = core.attendance.until(clock::now());
        let deadline = [core.next_deadline(), attended].into_iter().flatten().min();
        core.driver_wakes = deadline;
        let blocked = core.blocked.as_ref().map(|transmit| {
            core.helpers.get(transmit.destination.socket).unwrap_or(&self.udp).clone()
        });
        Sleep { deadline, blocked, is_attended: attended.is_some() }
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }
}

impl Core {
    fn next_deadline(&mut self) -> Option<Instant> {
        let simulated = self.simulator.as_ref().and_then(|simulator| simulator.next_arrival());
        let (endpoint, messenger) = (self.endpoint.poll_timeout(), self.messenger.poll_timeout());
        [endpoint, messenger, self.attendance.deadline(), simulated].into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        match &mut self.simulator {
            Some(simulator) => {
                let detour = self.endpoint.beacon().filter(|_| self.detour.is_on());
                simulator.poll_transmit(now, &mut self.endpoint, &mut self.run, detour)
            }
            None => self.endpoint.poll_transmit(now, &mut self.run),
        }
    }

    /// Hands in what was received.
    pub(super) fn take_in(&mut self, now: Instant, socket: SocketId, batch: &mut RecvBatch) {
        let mut bytes = 0;
        batch.for_each(|addr, datagram| {
            bytes += datagram.len();
            let from = Remote { socket, addr };
            match &mut self.simulator {
                Some(simulator) => simulator.receive(now, from, datagram),
                None => self.endpoint.handle_datagram(now, from, datagram),
            }
        });
        self.attendance.received(now, bytes);
        self.deliver(now);
    }

    /// Hands in what has come through a simulated network.
    fn deliver(&mut self, now: Instant) {
        let Some(simulator) = &mut self.simulator else { return };
        while let Some((from, mut datagram)) = simulator.poll_receive(now) {
            self.endpoint.handle_datagram(now, from, &mut datagram);
        }
        if simulator.is_over() {
            self.simulator = None;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.messenger.handle_timeout(now, &mut self.endpoint);
        if let Some(waker) = self.attendance.on_time(now) {
            self.inbox.room.push(waker);
            self.inbox.has_room = true;
        }
    }
}

//! What the tasks of a rendezvous share, and what they do under its locks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::debug;

use super::RendezvousConfig;
use super::compat::Hub;
use super::relay_runs::RelayRuns;
use super::stun::StunServer;
use super::tls::Certificate;
use super::writer::{Ticket, Writer};
use crate::net::clock;
use crate::net::udp::{RecvBatch, UdpIo};
use crate::proto::beacon::{Action, Beacon, Claim, Foreign, Roster, Stranger, attached};
use crate::proto::directory::{Directory, Effect, Outcome};
use crate::wire::registry::{Request, Response};
use crate::wire::stun::is_stun;
use crate::wire::{BeaconMessage, NodeId};

/// What the tasks share. Locks are held for one request or datagram, and never across an await;
/// `directory` may be locked under `beacon`, never the other way round.
#[derive(Debug)]
pub(super) struct State {
    directory: Mutex<Directory>,
    beacon: Mutex<Beacon>,
    connections: Mutex<Connections>,
    pub(super) socket: UdpIo,
    pub(super) stun: StunServer,
    /// Nodes that are connected by WebSocket.
    pub(super) hub: Hub,
    /// For those who speak TLS.
    pub(super) certificate: Option<Certificate>,
    pub(super) writer: Option<Arc<Writer>>,
    /// The beacon has heard of nodes that nobody here knows.
    pub(super) strangers: Notify,
}

/// What each receiver of datagrams has for itself; reused from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Worker {
    actions: Vec<Action>,
    runs: RelayRuns,
}

#[derive(Debug)]
struct Connections {
    open: usize,
    per_ip: HashMap<IpAddr, usize>,
    max: usize,
    max_per_ip: usize,
}

impl State {
    pub(super) fn new(
        config: &RendezvousConfig,
        directory: Directory,
        socket: UdpIo,
        certificate: Option<Certificate>,
        writer: Option<Arc<Writer>>,
        secret: [u8; 32],
    ) -> Self {
        Self {
            directory: Mutex::new(directory),
            beacon: Mutex::new(Beacon::new(&config.beacon, secret)),
            connections: Mutex::new(Connections {
                open: 0,
                per_ip: HashMap::new(),
                max: config.max_connections,
                max_per_ip: config.max_connections_per_ip,
            }),
            stun: StunServer::bind(socket.local_addr(), config.stun_port),
            socket,
            hub: Hub::default(),
            certificate,
            writer,
            strangers: Notify::new(),
        }
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        lock(&self.connections).open
    }

    /// Answers a request; with a ticket, when its effects are safe.
    pub(super) fn answer(&self, from: SocketAddr, request: Request) -> (Response, Option<Ticket>) {
        let mut directory = self.directory();
        let Outcome { response, effects, is_durable } =
            directory.handle(clock::unix_now(), from, request);
        let to_notify: Vec<NodeId> = effects.iter().filter_map(notified).collect();
        let ticket = self.writer.as_ref().and_then(|writer| {
            writer.submit(effects);
            is_durable.then(|| writer.ticket())
        });
        drop(directory);
        for node in to_notify {
            let datagram = self.beacon().notify(clock::now(), node);
            if let Some((to, datagram)) = datagram {
                self.send(to, &datagram);
            }
        }
        (response, ticket)
    }

    /// A datagram for which there is no room is lost, as the network may lose it.
    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Some(node) = attached::node_at(to) {
            return self.hub.push(node, datagram, datagram.len());
        }
        if let Err(error) = self.socket.try_send(to, datagram, datagram.len()) {
            debug!(%to, %error, "beacon cannot send");
        }
    }

    /// Hands what was received to the beacon, and does what it says. The lock is taken once, and
    /// no system call is made under it.
    pub(super) fn received(&self, worker: &mut Worker, socket: &UdpIo, batch: &mut RecvBatch) {
        let now = clock::now();
        let mut beacon = self.beacon();
        batch.for_each(|from, datagram| {
            // No packet comes from where connections are, except a forged one.
            let is_forged = attached::node_at(from).is_some();
            worker.actions.push(match is_forged || is_stun(datagram) {
                true => Action::Ignore,
                false => beacon.handle_datagram(now, from, datagram, self),
            });
        });
        let transmits = drain(&mut beacon);
        let has_strangers = beacon.has_strangers();
        drop(beacon);
        if has_strangers {
            self.strangers.notify_one();
        }
        let mut actions = worker.actions.drain(..);
        batch.for_each(|from, datagram| {
            let action = actions.next().unwrap_or(Action::Ignore);
            if !self.stun.take(socket, from, datagram) {
                self.act(action, &mut worker.runs, socket, datagram);
            }
        });
        drop(actions);
        worker.runs.flush(socket);
        self.send_all(&transmits);
    }

    /// The same for what came over the connection of `node`, whose other end is `peer`; what is
    /// to be passed on is gathered in `runs`.
    pub(super) fn attached_datagram(
        &self,
        runs: &mut RelayRuns,
        node: NodeId,
        peer: SocketAddr,
        datagram: &mut [u8],
    ) {
        let message = BeaconMessage::parse(datagram);
        if let Ok(BeaconMessage::Discover { .. } | BeaconMessage::Prove { .. }) = message {
            self.beacon_touch(node);
            let mut reply = Vec::with_capacity(20);
            BeaconMessage::DiscoverReply { endpoint: peer }.encode(&mut reply);
            return self.hub.push(node, &reply, reply.len());
        }
        let mut beacon = self.beacon();
        let from = attached::address_of(node);
        let action = beacon.handle_datagram(clock::now(), from, datagram, self);
        let transmits = drain(&mut beacon);
        drop(beacon);
        self.act(action, runs, &self.socket, datagram);
        self.send_all(&transmits);
    }

    fn act(&self, action: Action, runs: &mut RelayRuns, socket: &UdpIo, datagram: &[u8]) {
        match action {
            Action::Ignore => {}
            Action::Send(replies) => self.send_all(&replies),
            Action::Forward { to, start } => {
                let datagram = datagram.get(start..).unwrap_or(&[]);
                match attached::node_at(to) {
                    Some(node) => self.hub.push(node, datagram, datagram.len()),
                    None => runs.push(socket, to, datagram),
                }
            }
            Action::Verify(claim) => self.verify(&claim),
        }
    }

    fn verify(&self, claim: &Claim) {
        if !claim.is_signed() {
            return;
        }
        let action = self.beacon().proved(clock::now(), claim, self);
        if let Action::Send(replies) = action {
            self.send_all(&replies);
        }
    }

    fn send_all(&self, datagrams: &[(SocketAddr, Vec<u8>)]) {
        datagrams.iter().for_each(|(to, datagram)| self.send(*to, datagram));
    }

    /// Lets the beacon do what is due.
    pub(super) fn beacon_timeout(&self) {
        let mut beacon = self.beacon();
        beacon.handle_timeout(clock::now());
        let transmits = drain(&mut beacon);
        drop(beacon);
        self.send_all(&transmits);
    }

    /// Another registry has said who a stranger is.
    pub(super) fn introduce(&self, stranger: &Stranger, foreign: Option<Foreign>) {
        let mut beacon = self.beacon();
        beacon.introduce(clock::now(), stranger, foreign);
        let transmits = drain(&mut beacon);
        drop(beacon);
        self.send_all(&transmits);
    }

    pub(super) fn beacon_attach(&self, node: NodeId) {
        self.beacon().attach(clock::now(), node);
    }

    pub(super) fn beacon_touch(&self, node: NodeId) {
        self.beacon().touch(clock::now(), node);
    }

    pub(super) fn beacon_detach(&self, node: NodeId) {
        self.beacon().detach(node);
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    pub(super) fn beacon(&self) -> MutexGuard<'_, Beacon> {
        lock(&self.beacon)
    }
}

/// Locked for each question, as most datagrams raise none: relaying goes on beside the registry.
impl Roster for State {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        Roster::registered(&*self.directory(), node)
    }

    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.directory().public_key(node)
    }

    fn may_punch(&self, requester: NodeId, target: NodeId) -> bool {
        self.directory().may_punch(requester, target)
    }
}

fn drain(beacon: &mut Beacon) -> Vec<(SocketAddr, Vec<u8>)> {
    std::iter::from_fn(|| beacon.poll_transmit()).collect()
}

fn notified(effect: &Effect) -> Option<NodeId> {
    match effect {
        Effect::Notify(node) => Some(*node),
        _ => None,
    }
}

/// A panic under a lock is a bug, and one request's; the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection's place among those that are allowed.
pub(super) struct Slot {
    state: Arc<State>,
    ip: IpAddr,
}

impl Slot {
    /// `None` if there is no room.
    pub(super) fn take(state: &Arc<State>, ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        let mut connections = lock(&state.connections);
        let of_ip = connections.per_ip.get(&ip).copied().unwrap_or(0);
        let is_limited = of_ip >= connections.max_per_ip && !ip.is_loopback();
        if is_limited || connections.open >= connections.max {
            debug!(%ip, open = connections.open, "too many connections");
            return None;
        }
        connections.open += 1;
        connections.per_ip.insert(ip, of_ip + 1);
        drop(connections);
        Some(Self { state: state.clone(), ip })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut connections = lock(&self.state.connections);
        connections.open -= 1;
        match connections.per_ip.get_mut(&self.ip) {
            Some(open) if *open > 1 => *open -= 1,
            _ => {
                connections.per_ip.remove(&self.ip);
            }
        }
    }
}

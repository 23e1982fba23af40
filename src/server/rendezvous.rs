//! The rendezvous: a registry on a TCP port, a beacon on the UDP port of the same number.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tracing::{debug, warn};

use super::connection;
use super::store::{Store, StoreError};
use super::writer::{Ticket, Writer};
use crate::net::clock;
use crate::net::udp::{RecvBatch, UdpIo};
use crate::proto::beacon::{Action, Beacon, BeaconConfig, BeaconStats};
use crate::proto::directory::{Directory, DirectoryConfig, Effect};
use crate::wire::registry::{Request, Response};

/// Ports tried when any will do, until one is free for both TCP and UDP.
const PORT_ATTEMPTS: usize = 32;
/// Who is offline or forgotten is looked up this often.
const SWEEP: Duration = Duration::from_secs(10);
/// The pause after the system had no file descriptor for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How a [`Rendezvous`] is run.
#[derive(Debug, Clone)]
pub struct RendezvousConfig {
    /// Where to listen, TCP and UDP. Port 0 takes one that is free for both. `[::]` means IPv4
    /// too.
    pub listen: SocketAddr,
    /// The database file; `None` forgets everything at the end.
    pub store: Option<PathBuf>,
    /// What the registry allows.
    pub directory: DirectoryConfig,
    /// What the beacon allows.
    pub beacon: BeaconConfig,
    /// TCP connections at once. Default 4096; each takes a file descriptor, and at most 1 MiB
    /// while a frame of that size comes in.
    pub max_connections: usize,
    /// TCP connections at once from one address; loopback is not limited. Default 256.
    pub max_connections_per_ip: usize,
}

impl RendezvousConfig {
    /// A rendezvous at `listen` that forgets everything at the end.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            store: None,
            directory: DirectoryConfig::default(),
            beacon: BeaconConfig::default(),
            max_connections: 4096,
            max_connections_per_ip: 256,
        }
    }

    /// Keeps its state in this file.
    #[must_use]
    pub fn store(mut self, path: impl Into<PathBuf>) -> Self {
        self.store = Some(path.into());
        self
    }
}

/// Why a rendezvous cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not to be had.
    #[error("cannot listen on {addr} ({protocol}): {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServerError {
    /// Whether somebody else listens there, perhaps another rendezvous.
    #[must_use]
    pub fn is_addr_in_use(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// What a rendezvous is doing; a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RendezvousStats {
    /// Open TCP connections.
    pub connections: usize,
    /// Nodes that are online.
    pub online_nodes: usize,
    /// What the beacon did.
    pub beacon: BeaconStats,
}

/// A running rendezvous. Dropping it stops it too, but does not wait for that.
#[derive(Debug)]
pub struct Rendezvous {
    local_addr: SocketAddr,
    state: Arc<State>,
    /// Dropping it tells all tasks to end.
    closing: watch::Sender<()>,
    tasks: JoinSet<()>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

/// What the tasks share. Locks are held for one request or datagram, and never across an await;
/// `directory` is locked before `beacon`.
#[derive(Debug)]
pub(super) struct State {
    directory: Mutex<Directory>,
    beacon: Mutex<Beacon>,
    connections: Mutex<Connections>,
    socket: UdpIo,
    writer: Option<Arc<Writer>>,
}

#[derive(Debug)]
struct Connections {
    open: usize,
    per_ip: HashMap<IpAddr, usize>,
    max: usize,
    max_per_ip: usize,
}

impl Rendezvous {
    /// Starts a rendezvous on the tokio runtime around it.
    ///
    /// # Errors
    /// The address is in use or not ours, or the database cannot be opened; nothing is left
    /// running then.
    pub async fn bind(config: RendezvousConfig) -> Result<Self, ServerError> {
        // The ports first: who has them may use the database, so a successor that waits for the
        // ports never meets a database that its predecessor still writes.
        let (listener, socket) = bind_both(config.listen)?;
        let local_addr = socket.local_addr();
        let mut directory = Directory::new(config.directory);
        let store = config.store.map(Store::open).transpose()?;
        if let Some(store) = &store {
            for effect in store.load()? {
                directory.apply(clock::unix_now(), effect);
            }
        }
        let (closing, closed) = watch::channel(());
        let writer = store.as_ref().map(|_| Arc::new(Writer::default()));
        let state = Arc::new(State {
            directory: Mutex::new(directory),
            beacon: Mutex::new(Beacon::new(config.beacon)),
            connections: Mutex::new(Connections {
                open: 0,
                per_ip: HashMap::new(),
                max: config.max_connections,
                max_per_ip: config.max_connections_per_ip,
            }),
            socket,
            writer: writer.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(state.clone(), listener, closed.clone()));
        tasks.spawn(run_beacon(state.clone(), closed.clone()));
        tasks.spawn(sweep(state.clone(), closed.clone()));
        let writer = writer.zip(store).map(|(writer, store)| {
            // Not among the tasks: those are aborted when a rendezvous is dropped.
            tokio::spawn(writer.run(store, closed))
        });
        Ok(Self { local_addr, state, closing, tasks, writer })
    }

    /// Where it listens, TCP and UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> RendezvousStats {
        RendezvousStats {
            online_nodes: self.state.directory().online_nodes(clock::unix_now()),
            connections: lock(&self.state.connections).open,
            beacon: self.state.beacon().stats(),
        }
    }

    /// Closes all connections, writes what is pending, and returns when no task and no file
    /// descriptor is left.
    pub async fn shutdown(self) {
        let Self { closing, mut tasks, writer, state, .. } = self;
        drop(closing);
        while tasks.join_next().await.is_some() {}
        if let Some(writer) = writer {
            let _ = writer.await;
        }
        drop(state);
    }
}

impl State {
    /// Answers a request; with a ticket, when its effects are safe.
    pub(super) fn answer(&self, from: SocketAddr, request: Request) -> (Response, Option<Ticket>) {
        let mut directory = self.directory();
        let outcome = directory.handle(clock::unix_now(), from, request);
        for effect in &outcome.effects {
            if let Effect::Notify(node) = effect
                && let Some((to, datagram)) = self.beacon().notify(clock::now(), *node)
            {
                self.send(to, &datagram);
            }
        }
        let ticket = self.writer.as_ref().and_then(|writer| {
            writer.submit(outcome.effects);
            outcome.is_durable.then(|| writer.ticket())
        });
        (outcome.response, ticket)
    }

    /// A datagram for which there is no room is lost, as the network may lose it.
    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.try_send(to, datagram, datagram.len()) {
            debug!(%to, %error, "beacon cannot send");
        }
    }

    fn datagram(&self, from: SocketAddr, datagram: &mut [u8]) {
        let action = {
            let directory = self.directory();
            self.beacon().handle_datagram(clock::now(), from, datagram, &*directory)
        };
        match action {
            Action::Ignore => {}
            Action::Send(replies) => {
                replies.iter().for_each(|(to, reply)| self.send(*to, reply));
            }
            Action::Forward { to, start } => self.send(to, datagram.get(start..).unwrap_or(&[])),
        }
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    fn beacon(&self) -> MutexGuard<'_, Beacon> {
        lock(&self.beacon)
    }
}

/// A panic under a lock is a bug, and one request's; the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(state: Arc<State>, listener: TcpListener, mut closing: watch::Receiver<()>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            _ = closing.changed() => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    if let Some(slot) = Slot::take(&state, from.ip()) {
                        clients.spawn(client(state.clone(), stream, from, slot));
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    clients.shutdown().await;
}

async fn client(state: Arc<State>, stream: TcpStream, from: SocketAddr, slot: Slot) {
    let _ = stream.set_nodelay(true);
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    if let Err(error) = connection::serve(state, stream, from).await {
        debug!(%from, %error, "registry connection ended");
    }
    drop(slot);
}

/// A connection's place among those that are allowed.
struct Slot {
    state: Arc<State>,
    ip: IpAddr,
}

impl Slot {
    fn take(state: &Arc<State>, ip: IpAddr) -> Option<Self> {
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

async fn run_beacon(state: Arc<State>, mut closing: watch::Receiver<()>) {
    let mut batch = RecvBatch::default();
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            ready = state.socket.readable() => {
                if let Err(error) = ready {
                    warn!(%error, "beacon socket");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // Errors are ICMP's echo of what was sent earlier, or that there is nothing.
        if state.socket.try_recv(&mut batch).is_ok() {
            batch.for_each(|from, datagram| state.datagram(from, datagram));
        }
    }
}

async fn sweep(state: Arc<State>, mut closing: watch::Receiver<()>) {
    let mut ticks = interval(SWEEP);
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            _ = ticks.tick() => {}
        }
        let mut directory = state.directory();
        let effects = directory.handle_timeout(clock::unix_now());
        if let Some(writer) = &state.writer {
            writer.submit(effects);
        }
        state.beacon().handle_timeout(clock::now());
        drop(directory);
    }
}

/// Listens on TCP and UDP at one port.
fn bind_both(listen: SocketAddr) -> Result<(TcpListener, UdpIo), ServerError> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let socket = UdpIo::bind(listen).map_err(|source| ServerError::Bind {
            addr: listen,
            protocol: "UDP",
            source,
        })?;
        // UdpIo may have fallen back to IPv4; TCP follows it.
        match listen_tcp(socket.local_addr()) {
            Ok(listener) => return Ok((listener, socket)),
            Err(source) => {
                let error = ServerError::Bind { addr: listen, protocol: "TCP", source };
                if listen.port() != 0 || !error.is_addr_in_use() {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| ServerError::Bind {
        addr: listen,
        protocol: "TCP",
        source: io::ErrorKind::AddrInUse.into(),
    }))
}

fn listen_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A successor must not wait for the connections of its predecessor to leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

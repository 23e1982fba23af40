//! The rendezvous: a registry on a TCP port, a beacon on the UDP port of the same number, and by
//! WebSocket on the TCP port, too. With and without TLS: see [`greeting`].

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep};
use tracing::{debug, warn};

use super::cluster;
use super::greeting;
use super::listen::{Sockets, bind_both, bind_tcp};
use super::state::{Slot, State, Worker};
use super::store::{Store, StoreError};
use super::tls::{Certificate, CertificateError, CertificateFiles};
use super::writer::Writer;
use crate::net::clock;
use crate::net::tls::Fingerprint;
use crate::net::udp::{RecvBatch, UdpIo};
use crate::net::watch::Interest;
use crate::proto::beacon::{BeaconConfig, BeaconStats};
use crate::proto::directory::{Directory, DirectoryConfig, Effect};

/// How often, and with what pauses, a database in use is tried again.
const OPEN_ATTEMPTS: usize = 10;
const OPEN_RETRY: Duration = Duration::from_millis(50);
/// Who is offline or forgotten is looked up this often.
const SWEEP: Duration = Duration::from_secs(10);
/// The pause after the system had no file descriptor for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// More sockets than this wait for each other, and each has half a megabyte of buffers.
const MAX_WORKERS: usize = 32;

/// How a [`Rendezvous`] is run.
#[derive(Debug, Clone)]
pub struct RendezvousConfig {
    /// Where to listen, TCP and UDP. Port 0 takes one that is free for both. `[::]` means IPv4
    /// too.
    pub listen: SocketAddr,
    /// One more TCP address that does the same, e.g. port 443: the only one that some networks
    /// let through.
    pub tls_listen: Option<SocketAddr>,
    /// The certificate for TLS. Without one the rendezvous makes its own, and keeps it beside the
    /// database (`rendezvous.redb` has `rendezvous.tls.pem`).
    pub certificate: Option<CertificateFiles>,
    /// A second UDP port, by which nodes find out what their NAT does; 0 takes any that is free.
    /// `None`: the next free one after that of `listen`, and none on loopback.
    pub stun_port: Option<u16>,
    /// The other rendezvous of a cluster, `host:port` each: their beacons tell each other which
    /// nodes they hear, and pass frames on. Each must name all others.
    pub peers: Vec<String>,
    /// The address by which nodes know this one, for the list of beacons that they may ask for.
    /// Default: `listen`, unless that is unspecified.
    pub advertise: Option<SocketAddr>,
    /// The database file; `None` forgets everything at the end.
    pub store: Option<PathBuf>,
    /// What the registry allows.
    pub directory: DirectoryConfig,
    /// What the beacon allows.
    pub beacon: BeaconConfig,
    /// Cores that relay, each with a UDP socket of its own on the same port, among which the
    /// kernel shares senders out. Default 0: all cores. Only Linux shares; elsewhere it is one.
    pub workers: usize,
    /// TCP connections at once. Default 16,384; each takes a file descriptor, and at most 1 MiB
    /// while a frame of that size comes in.
    pub max_connections: usize,
    /// TCP connections at once from one address; loopback is not limited. Default
    /// 4,096: fleets share the address of their NAT.
    pub max_connections_per_ip: usize,
}

impl RendezvousConfig {
    /// A rendezvous at `listen` that forgets everything at the end.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            stun_port: None,
            tls_listen: None,
            certificate: None,
            peers: Vec::new(),
            advertise: None,
            store: None,
            directory: DirectoryConfig::default(),
            beacon: BeaconConfig::default(),
            workers: 0,
            max_connections: 16_384,
            max_connections_per_ip: 4_096,
        }
    }

    fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
            workers => workers.min(MAX_WORKERS),
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
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A bug.
    #[error("the rendezvous failed: {0}; please report this")]
    Internal(String),
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
    /// Nodes that are connected by WebSocket.
    pub attached_nodes: usize,
    /// Datagrams that a WebSocket had no room for.
    pub attached_dropped: u64,
    /// What the beacon did.
    pub beacon: BeaconStats,
}

/// A running rendezvous. Dropping it stops it too, but does not wait for that.
#[derive(Debug)]
pub struct Rendezvous {
    local_addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    fingerprint: Option<Fingerprint>,
    state: Arc<State>,
    /// Dropping it tells all tasks to end.
    closing: watch::Sender<()>,
    tasks: JoinSet<()>,
    writer: Option<tokio::task::JoinHandle<()>>,
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
        let Sockets { listener, first, others } = bind_both(config.listen, config.workers())?;
        let local_addr = first.local_addr();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| ServerError::Internal(format!("no randomness: {error}")))?;
        let tls_listener = config.tls_listen.map(bind_tcp).transpose()?;
        let tls_addr = tls_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let certificate = certificate(&config).await?;
        let fingerprint = certificate.as_ref().map(|certificate| certificate.fingerprint);
        let mut directory_config = config.directory.clone();
        directory_config.fingerprint = fingerprint.map(|own| own.to_string()).unwrap_or_default();
        if directory_config.beacons.is_empty() {
            let own = config.advertise.or(Some(local_addr));
            directory_config.beacons = cluster::beacons(own, &config.peers);
        }
        let mut directory = Directory::new(directory_config);
        let store = match &config.store {
            Some(path) => {
                let (store, effects) = open(path.clone()).await?;
                for effect in effects {
                    directory.apply(clock::unix_now(), effect);
                }
                Some(store)
            }
            None => None,
        };
        let (closing, closed) = watch::channel(());
        let writer = store.as_ref().map(|_| Arc::new(Writer::default()));
        let state =
            Arc::new(State::new(&config, directory, first, certificate, writer.clone(), secret));
        let mut tasks = JoinSet::new();
        for listener in [Some(listener), tls_listener].into_iter().flatten() {
            tasks.spawn(accept(state.clone(), listener, closed.clone()));
        }
        tasks.spawn(run_beacon(state.clone(), None, closed.clone()));
        for socket in others {
            tasks.spawn(run_beacon(state.clone(), Some(socket), closed.clone()));
        }
        tasks.spawn(run_stun(state.clone(), closed.clone()));
        tasks.spawn(sweep(state.clone(), closed.clone()));
        if !config.peers.is_empty() {
            let peers = &config.peers;
            tasks.spawn(cluster::keep_peers(state.clone(), peers.clone(), closed.clone()));
            tasks.spawn(cluster::introduce_strangers(state.clone(), peers.clone(), closed.clone()));
        }
        let writer = writer.zip(store).map(|(writer, store)| {
            // Not among the tasks, which are aborted when a rendezvous is dropped. It holds the
            // UDP port until the database is closed.
            let state = state.clone();
            tokio::spawn(async move {
                writer.run(store, closed).await;
                drop(state);
            })
        });
        Ok(Self { local_addr, tls_addr, fingerprint, state, closing, tasks, writer })
    }

    /// Where it listens, TCP and UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where else it listens, if [`RendezvousConfig::tls_listen`] says so.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// What its certificate is pinned by; `None` if this build has no TLS.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> RendezvousStats {
        RendezvousStats {
            online_nodes: self.state.directory().online_nodes(clock::unix_now()),
            connections: self.state.connections(),
            attached_nodes: self.state.hub.len(),
            attached_dropped: self.state.hub.dropped(),
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

/// The operator's certificate, or our own.
async fn certificate(config: &RendezvousConfig) -> Result<Option<Certificate>, ServerError> {
    let files = config.certificate.clone();
    let own = config.store.as_ref().map(|store| store.with_extension("tls.pem"));
    let loading = spawn_blocking(move || match files {
        Some(files) => Certificate::load(&files).map(Some),
        None => Certificate::own(own.as_deref()),
    });
    let loaded = loading.await.map_err(|panicked| ServerError::Internal(panicked.to_string()))?;
    Ok(loaded?)
}

/// Opens the database and reads it. Between the moments in which the system frees the ports and
/// the files of a process that was killed, it may seem to be in use.
async fn open(path: PathBuf) -> Result<(Store, Vec<Effect>), ServerError> {
    let mut patience = OPEN_ATTEMPTS;
    loop {
        let path = path.clone();
        let opened = spawn_blocking(move || {
            let store = Store::open(path)?;
            let effects = store.load()?;
            Ok((store, effects))
        });
        match opened.await.map_err(|panicked| ServerError::Internal(panicked.to_string()))? {
            Err(StoreError::InUse { .. }) if patience > 0 => patience -= 1,
            result => return result.map_err(ServerError::Store),
        }
        sleep(OPEN_RETRY).await;
    }
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
    if let Err(error) = greeting::serve(state, stream, from).await {
        debug!(%from, %error, "connection ended");
    }
    drop(slot);
}

/// Receives from `own`, or from the first socket.
async fn run_beacon(state: Arc<State>, own: Option<UdpIo>, mut closing: watch::Receiver<()>) {
    let socket = own.as_ref().unwrap_or(&state.socket);
    let (mut batch, mut worker) = (RecvBatch::default(), Worker::default());
    let watch = loop {
        match socket.watch(Interest::Readable) {
            Ok(watch) => break watch,
            Err(error) => warn!(%error, "beacon socket"),
        }
        tokio::select! {
            _ = closing.changed() => return,
            () = sleep(ACCEPT_RETRY) => {}
        }
    };
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            ready = watch.ready() => {
                if let Err(error) = ready {
                    warn!(%error, "beacon socket");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // Errors are ICMP's echo of what was sent earlier, or that there is nothing.
        if watch.attempt(|| socket.try_recv(&mut batch)).is_ok() {
            state.received(&mut worker, socket, &mut batch);
        }
    }
}

async fn run_stun(state: Arc<State>, mut closing: watch::Receiver<()>) {
    tokio::select! {
        _ = closing.changed() => {}
        () = state.stun.serve_second(&state.socket) => {}
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
        drop(directory);
        state.beacon_timeout();
    }
}

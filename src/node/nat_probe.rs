//! Finding out, in the background and with sockets of their own, what the NAT does.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::net::clock;
use crate::net::interfaces::source_toward;
use crate::net::jitter::jitter;
use crate::net::registry_client::RegistryClient;
use crate::proto::nat::{
    LIFETIME_SOCKETS, LifetimeProbe, NatDetector, NatKind, Probe, SOCKETS, StunServers,
};
use crate::wire::registry::{Request, Response};

/// First things first: who starts a node wants to talk to others.
const AFTER_START: Duration = Duration::from_millis(300);
/// Without an answer, such as from a server that speaks no STUN, or has too many to answer, it is
/// tried again after these pauses, or up to twice as long.
const AGAIN: [Duration; 3] =
    [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];
/// How long the lifetime of mappings, once measured, is believed.
const STAYS_TRUE: Duration = Duration::from_secs(3_600);
/// How long the registry may take to tell of other beacons.
const BEACONS: Duration = Duration::from_secs(2);
/// Longest STUN message that we care for.
const MAX_MESSAGE: usize = 512;

/// What was found out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finding {
    /// The kind of NAT.
    Kind(NatKind),
    /// How long a mapping lives at least.
    Lifetime(Duration),
    /// The beacon's name leads to another address.
    Beacon(SocketAddr),
    /// From where the router forwards to us, or that it does not any more.
    Mapped(Option<SocketAddr>),
}

/// Finds out about the NAT toward `beacon`, and tells each finding. Ends when there is nothing
/// more to find out.
pub(super) async fn probe(
    beacon: SocketAddr,
    registry: RegistryClient,
    findings: mpsc::Sender<Finding>,
    seed: [u8; 32],
) {
    sleep(AFTER_START + jitter(AFTER_START)).await;
    let mut rng = StdRng::from_seed(seed);
    for pause in AGAIN {
        let other = other_beacon(&registry, beacon).await;
        let servers = StunServers { first: beacon, other };
        let (kind, public_ip) = match detect(servers, &mut rng).await {
            Ok(found) => found,
            Err(error) => {
                debug!(%error, "cannot find out about the NAT");
                Default::default()
            }
        };
        if let Some(public_ip) = public_ip {
            debug!(%kind, "NAT");
            // The receiver ends with the node.
            let _ = findings.send(Finding::Kind(kind)).await;
            if kind.name() == "none" {
                return;
            }
            let network = (beacon, public_ip);
            if let Err(error) = measure_once(network, &mut rng, &findings).await {
                debug!(%error, "cannot measure how long mappings live");
            }
            return;
        }
        sleep(pause + jitter(pause)).await;
    }
}

/// Measures for all nodes of this process that are in the same network: one after the other would
/// take hours, and all at once thousands of sockets.
async fn measure_once(
    network: (SocketAddr, IpAddr),
    rng: &mut StdRng,
    findings: &mpsc::Sender<Finding>,
) -> io::Result<()> {
    static MEASURED: Mutex<Option<Measured>> = Mutex::const_new(None);
    let mut last = MEASURED.lock().await;
    match &*last {
        Some(known) if known.network == network && clock::now() < known.at + STAYS_TRUE => {
            let _ = findings.send(Finding::Lifetime(known.lifetime)).await;
        }
        _ => {
            let measured = measure(network.0, rng, findings).await?;
            *last = measured.map(|lifetime| Measured { network, lifetime, at: clock::now() });
        }
    }
    Ok(())
}

/// What was found out last.
#[derive(Debug)]
struct Measured {
    /// The server, and where it saw us.
    network: (SocketAddr, IpAddr),
    lifetime: Duration,
    at: Instant,
}

async fn detect(servers: StunServers, rng: &mut StdRng) -> io::Result<(NatKind, Option<IpAddr>)> {
    let sockets = Sockets::open(servers.first, SOCKETS).await?;
    let ip = source_toward(servers.first).ok_or(io::ErrorKind::NetworkUnreachable)?;
    let mut local = [servers.first; SOCKETS];
    for (local, socket) in local.iter_mut().zip(&sockets.0) {
        *local = SocketAddr::new(ip, socket.local_addr()?.port());
    }
    let mut detector = NatDetector::new(clock::now(), servers, local, rng);
    loop {
        while let Some(probe) = detector.poll_transmit(clock::now()) {
            sockets.send(&probe).await;
        }
        let Some(due) = detector.poll_timeout(clock::now()) else {
            return Ok((detector.kind(), detector.public_ip()));
        };
        if let Some((socket, datagram)) = sockets.receive_until(due).await {
            detector.handle_datagram(clock::now(), socket, &datagram, rng);
        }
    }
}

async fn measure(
    server: SocketAddr,
    rng: &mut StdRng,
    findings: &mpsc::Sender<Finding>,
) -> io::Result<Option<Duration>> {
    let sockets = Sockets::open(server, LIFETIME_SOCKETS).await?;
    let mut probe = LifetimeProbe::new(clock::now(), server, rng);
    let mut known = None;
    loop {
        while let Some(sent) = probe.poll_transmit(clock::now()) {
            sockets.send(&sent).await;
        }
        let lifetime = probe.lifetime();
        if let Some(lifetime) = lifetime
            && lifetime > known.unwrap_or_default()
        {
            let _ = findings.send(Finding::Lifetime(lifetime)).await;
            known = Some(lifetime);
        }
        let Some(due) = probe.poll_timeout() else { return Ok(known) };
        if let Some((socket, datagram)) = sockets.receive_until(due).await {
            probe.handle_datagram(clock::now(), socket, &datagram, rng);
        }
    }
}

/// A beacon at another address, if the registry knows one.
async fn other_beacon(registry: &RegistryClient, beacon: SocketAddr) -> Option<SocketAddr> {
    let listed = timeout(BEACONS, registry.call(Request::BeaconList {})).await.ok()?;
    let Ok(Response::BeaconListOk { beacons }) = listed else { return None };
    let mut addrs = beacons.iter().filter_map(|listed| listed.addr.parse::<SocketAddr>().ok());
    let is_other = |addr: &SocketAddr| {
        addr.ip() != beacon.ip() && addr.is_ipv4() == beacon.is_ipv4() && !addr.ip().is_loopback()
    };
    addrs.find(is_other)
}

/// Sockets of any port, and of the family of a server.
struct Sockets(Vec<UdpSocket>);

impl Sockets {
    async fn open(server: SocketAddr, count: usize) -> io::Result<Self> {
        let any: SocketAddr =
            if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            sockets.push(UdpSocket::bind(any).await?);
        }
        Ok(Self(sockets))
    }

    /// What cannot be sent is lost, as the network may lose it.
    async fn send(&self, probe: &Probe) {
        if let Some(socket) = self.0.get(probe.socket) {
            let _ = socket.send_to(&probe.datagram, probe.to).await;
        }
    }

    /// What comes first to any socket until `due`.
    async fn receive_until(&self, due: Instant) -> Option<(usize, Vec<u8>)> {
        tokio::time::timeout_at(due.into(), self.receive()).await.ok()
    }

    async fn receive(&self) -> (usize, Vec<u8>) {
        let mut storage = [0; MAX_MESSAGE];
        poll_fn(|cx| {
            for (at, socket) in self.0.iter().enumerate() {
                let mut buffer = ReadBuf::new(&mut storage);
                // An error is the echo of something sent: the next poll finds what is behind it.
                while let Poll::Ready(received) = socket.poll_recv_from(cx, &mut buffer) {
                    if received.is_ok() {
                        return Poll::Ready((at, buffer.filled().to_vec()));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

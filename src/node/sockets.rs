//! The sockets that a node has beside its main one, while it punches through a symmetric NAT.
//!
//! The protocol asks for them ([`EndpointEvent::OpenSockets`]) and gives them back; one that
//! carries a path stays. They are many and idle, so each has small buffers and one descriptor,
//! and no more are opened than leave the program half of the descriptors that it has left.
//!
//! [`EndpointEvent::OpenSockets`]: crate::proto::endpoint::EndpointEvent::OpenSockets

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::debug;

use super::core::{Core, Shared};
use crate::net::udp::UdpIo;
use crate::net::watch::{Interest, Watch};
use crate::proto::endpoint::Transmit;
use crate::proto::path::SocketId;

/// Sockets opened before other tasks of the runtime get their turn.
const OPENED_PER_TURN: usize = 16;
/// Receive calls before other tasks of the runtime get their turn.
const RECEIVES_PER_TURN: usize = 16;
/// Sockets opened where nobody can say how many descriptors are left.
const WITHOUT_KNOWING: usize = 64;

/// What the protocol wants done, in this order.
#[derive(Clone, Copy, Debug)]
pub(super) enum SocketOrder {
    Open { first: SocketId, count: u16 },
    Close { first: SocketId, count: u16 },
}

/// The open ones. Dropping one ends the task that receives from it.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    open: HashMap<SocketId, Helper>,
}

#[derive(Debug)]
struct Helper {
    udp: Arc<UdpIo>,
    receiver: AbortHandle,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl Helpers {
    /// As [`UdpIo::try_send`]. What is for a socket that is gone is lost, as the network may.
    pub(super) fn try_send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<usize> {
        match self.get(transmit.destination.socket) {
            Some(udp) => udp.try_send(transmit.destination.addr, contents, transmit.segment_size),
            None => Ok(contents.len()),
        }
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&Arc<UdpIo>> {
        self.open.get(&id).map(|helper| &helper.udp)
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    fn close(&mut self, first: SocketId, count: u16) {
        let end = u32::from(first.0) + u32::from(count);
        self.open.retain(|id, _| *id < first || u32::from(id.0) >= end);
        // Few are left, and they are so because they carry a path.
        self.open.values().for_each(|helper| helper.udp.enlarge());
    }
}

/// Carries out orders until the node is gone.
pub(super) async fn keep(
    shared: Weak<Shared>,
    like: SocketAddr,
    mut orders: mpsc::UnboundedReceiver<SocketOrder>,
) {
    let bind_to = SocketAddr::new(like.ip(), 0);
    while let Some(order) = orders.recv().await {
        match order {
            SocketOrder::Open { first, count } => open(&shared, bind_to, first, count).await,
            SocketOrder::Close { first, count } => {
                let Some(shared) = shared.upgrade() else { return };
                shared.look(|core| core.helpers.close(first, count));
            }
        }
    }
}

async fn open(shared: &Weak<Shared>, bind_to: SocketAddr, first: SocketId, wanted: u16) {
    let allowed = usize::from(wanted).min(spare_descriptors() / 2);
    let mut ports = Vec::with_capacity(allowed);
    for id in (first.0..=u16::MAX).take(allowed).map(SocketId) {
        let Some(shared) = shared.upgrade() else { return };
        match open_one(&shared, bind_to, id) {
            Ok(port) => ports.push(port),
            Err(error) => {
                debug!(%error, opened = ports.len(), "no more sockets");
                break;
            }
        }
        if ports.len().is_multiple_of(OPENED_PER_TURN) {
            drop(shared);
            tokio::task::yield_now().await;
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.act(|core, now| core.endpoint.handle_sockets(now, first, &ports));
    }
}

fn open_one(shared: &Arc<Shared>, bind_to: SocketAddr, id: SocketId) -> io::Result<u16> {
    let udp = Arc::new(UdpIo::bind_small(bind_to)?);
    let port = udp.local_addr().port();
    let watch = udp.watch_alone(Interest::Readable)?;
    let receiver = tokio::spawn(receive(Arc::downgrade(shared), udp.clone(), id, watch));
    let helper = Helper { udp, receiver: receiver.abort_handle() };
    // If it is not taken, it is dropped, and with it the task and the socket.
    shared.look(|core| core.keep_helper(id, helper));
    Ok(port)
}

async fn receive(shared: Weak<Shared>, udp: Arc<UdpIo>, id: SocketId, watch: Watch) {
    while watch.ready().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        for _ in 0..RECEIVES_PER_TURN {
            match watch.attempt(|| shared.receive_from(&udp, id)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // As with the main socket, other errors belong to something sent earlier.
                Ok(()) | Err(_) => {}
            }
        }
        tokio::task::consume_budget().await;
    }
}

impl Core {
    fn keep_helper(&mut self, id: SocketId, helper: Helper) {
        if !self.is_closed {
            self.helpers.open.insert(id, helper);
        }
    }
}

/// How many more descriptors this program may open.
fn spare_descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").ok();
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    match (limits.as_deref().and_then(max_open_files), open) {
        (Some(limit), Some(open)) => limit.saturating_sub(open),
        _ => 2 * WITHOUT_KNOWING,
    }
}

/// The soft limit, as Linux tells it.
fn max_open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_whitespace().next()?;
    Some(limit.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::node::{Node, NodeConfig};
    use crate::server::{Rendezvous, RendezvousConfig};

    async fn node(rendezvous: &Rendezvous, home: &std::path::Path) -> Node {
        Node::start(NodeConfig {
            rendezvous: Some(rendezvous.local_addr().to_string()),
            home: Some(home.to_owned()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..NodeConfig::default()
        })
        .await
        .unwrap()
    }

    /// Waits, at most 10 s, until the core is in the state that `holds` looks for.
    async fn until(node: &Node, mut holds: impl FnMut(&mut Core) -> bool) {
        let wait = async {
            while !node.inner.shared.look(&mut holds) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    fn count(core: &mut Core) -> usize {
        core.helpers.open.len()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sockets_come_receive_stay_and_go_as_the_protocol_wants() {
        let (home, listen) = (tempfile::tempdir().unwrap(), "127.0.0.1:0".parse().unwrap());
        let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap();
        let node = node(&rendezvous, home.path()).await;
        let shared = &node.inner.shared;
        let order = |order| shared.look(|core| core.order(order));
        order(SocketOrder::Open { first: SocketId(10), count: 40 });
        until(&node, |core| count(core) == 40).await;

        let helper = shared.look(|core| core.helpers.get(SocketId(20)).unwrap().clone());
        let before = shared.look(|core| core.endpoint.stats().dropped_malformed);
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"what is this", helper.local_addr()).unwrap();
        until(&node, |core| core.endpoint.stats().dropped_malformed > before).await;

        order(SocketOrder::Close { first: SocketId(10), count: 10 });
        order(SocketOrder::Close { first: SocketId(21), count: 29 });
        until(&node, |core| count(core) == 1).await;
        assert!(shared.look(|core| core.helpers.get(SocketId(20)).is_some()));

        let local = helper.local_addr();
        drop(helper);
        node.close().await;
        assert_eq!(shared.look(count), 0);
        let freed = async {
            while UdpSocket::bind(local).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.expect("it is closed");
    }

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let limits = "Limit       Soft Limit  Hard Limit  Units\n\
                      Max processes   1000  1000  processes\n\
                      Max open files  1024  524288  files\n";
        assert_eq!(max_open_files(limits), Some(1_024));
        let unlimited = "Max open files  unlimited  unlimited  files";
        assert_eq!(max_open_files(unlimited), Some(usize::MAX));
        assert_eq!(max_open_files("who knows"), None);
    }
}

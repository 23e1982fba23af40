//! What a node tells the registry of itself, and how it comes back to a registry that was away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilot_agent::node::{Node, NodeConfig, PeerRef};
use pilot_agent::proto::path::{CandidateKind, PathPolicy};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);

async fn rendezvous(listen: &str) -> Rendezvous {
    Rendezvous::bind(RendezvousConfig::new(listen.parse().unwrap())).await.unwrap()
}

fn config(home: &tempfile::TempDir, hostname: &str, rendezvous: &str) -> NodeConfig {
    NodeConfig {
        hostname: Some(hostname.to_owned()),
        rendezvous: Some(rendezvous.to_owned()),
        home: Some(home.path().to_owned()),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..NodeConfig::default()
    }
}

/// Asks until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    begun.elapsed()
}

/// Passes datagrams between one client and `server`, which sees them come from another port.
async fn nat(server: SocketAddr) -> (SocketAddr, SocketAddr) {
    let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addrs = (inside.local_addr().unwrap(), outside.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((len, from)) = inside.recv_from(&mut up) => {
                    client = Some(from);
                    let _ = outside.send_to(&up[..len], server).await;
                }
                Ok((len, _)) = outside.recv_from(&mut down) => {
                    if let Some(client) = client {
                        let _ = inside.send_to(&down[..len], client).await;
                    }
                }
            }
        }
    });
    addrs
}

/// Where the registry says that `name` is, in the eyes of `asker`.
async fn registered_endpoint(asker: &Node, name: &str) -> Option<SocketAddr> {
    let peer: PeerRef = name.parse().unwrap();
    let address = asker.resolve(&peer).await.unwrap();
    asker.peers().into_iter().find(|peer| peer.address == address)?.endpoint
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_that_the_nat_shows_is_registered() {
    let (server, home) = (rendezvous("127.0.0.1:0").await, tempfile::tempdir().unwrap());
    let registry = server.local_addr();
    let (beacon, outside) = nat(registry).await;
    let behind = format!("registry={registry},beacon={beacon}");
    let a = Node::start(config(&home, "a", &behind)).await.unwrap();
    let b = Node::start(config(&home, "b", &registry.to_string())).await.unwrap();
    assert_ne!(a.local_addr().port(), outside.port());
    until("observed", async || a.info().observed_addr == Some(outside)).await;
    assert_eq!(registered_endpoint(&b, "a").await, Some(outside));
    assert_eq!(registered_endpoint(&a, "b").await, Some(b.local_addr()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_endpoint_is_registered_instead() {
    let (server, home) = (rendezvous("127.0.0.1:0").await, tempfile::tempdir().unwrap());
    let registry = server.local_addr().to_string();
    let forwarded: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let a = NodeConfig { public_endpoint: Some(forwarded), ..config(&home, "a", &registry) };
    let a = Node::start(a).await.unwrap();
    let b = Node::start(config(&home, "b", &registry)).await.unwrap();
    assert_eq!(registered_endpoint(&b, "a").await, Some(forwarded));
    let kinds: Vec<_> = a.info().candidates.into_iter().map(|c| (c.kind, c.addr)).collect();
    assert_eq!(kinds[0], (CandidateKind::Configured, forwarded));
    assert!(kinds.iter().any(|(_, addr)| *addr == a.local_addr()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_relayed_only_does_not_say_where_it_is() {
    let (server, home) = (rendezvous("127.0.0.1:0").await, tempfile::tempdir().unwrap());
    let registry = server.local_addr().to_string();
    let paths = PathPolicy { direct: false, ..PathPolicy::default() };
    let a = NodeConfig { paths, ..config(&home, "a", &registry) };
    let a = Node::start(a).await.unwrap();
    let b = Node::start(config(&home, "b", &registry)).await.unwrap();
    let _ = registered_endpoint(&b, "a").await;
    let peers = b.peers();
    assert!(peers.iter().all(|peer| peer.endpoint != Some(a.local_addr())), "{peers:?}");
    assert!(a.info().candidates.is_empty());
    b.ping(&"a".parse().unwrap(), LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_back_soon_but_not_at_once_and_tunnels_do_not_notice() {
    const NODES: usize = 24;
    let (server, home) = (rendezvous("127.0.0.1:0").await, tempfile::tempdir().unwrap());
    let listen = server.local_addr().to_string();
    let mut nodes = Vec::new();
    for n in 0..NODES {
        nodes.push(Node::start(config(&home, &format!("n{n}"), &listen)).await.unwrap());
    }
    let peer: PeerRef = "n1".parse().unwrap();
    nodes[0].ping(&peer, LIMIT).await.unwrap();
    server.shutdown().await;
    until("all know", async || nodes.iter().all(|node| !node.info().registered)).await;
    nodes[0].ping(&peer, LIMIT).await.unwrap();

    let server = rendezvous(&listen).await;
    let mut first = None;
    let begun = Instant::now();
    let all = until("all are back", async || {
        let online = server.stats().online_nodes;
        if online > 0 && first.is_none() {
            first = Some((online, begun.elapsed()));
        }
        online == NODES
    })
    .await;
    println!("first {first:?}, all {NODES} after {all:?}");
    let (at_first, _) = first.unwrap();
    assert!(at_first < NODES, "all {NODES} came in the same moment");
    nodes[0].ping(&peer, LIMIT).await.unwrap();
    until("all registered", async || nodes.iter().all(|node| node.info().registered)).await;
}

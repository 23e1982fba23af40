//! Whole nodes where UDP does not reach the beacon.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilot_agent::node::{Node, NodeConfig, Payload, PeerRef};
use pilot_agent::server::Rendezvous;
use tokio::net::UdpSocket;

use super::support::rendezvous;

/// Long enough for a busy machine, and for the pauses between attempts at UDP.
const LIMIT: Duration = Duration::from_secs(60);

/// A place in front of the beacon's UDP port that lets datagrams through, or not.
struct Wall {
    addr: SocketAddr,
    is_open: Arc<AtomicBool>,
}

impl Wall {
    async fn before(beacon: SocketAddr) -> Self {
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = outside.local_addr().unwrap();
        let is_open = Arc::new(AtomicBool::new(false));
        let open = is_open.clone();
        tokio::spawn(async move {
            // One node at a time has a way through, which is all that the tests need.
            let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            inside.connect(beacon).await.unwrap();
            let mut node = None;
            let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    Ok((len, from)) = outside.recv_from(&mut there) => {
                        node = Some(from);
                        if open.load(Ordering::Relaxed) {
                            let _ = inside.send(&there[..len]).await;
                        }
                    }
                    Ok(len) = inside.recv(&mut back) => {
                        if open.load(Ordering::Relaxed) && let Some(node) = node {
                            let _ = outside.send_to(&back[..len], node).await;
                        }
                    }
                }
            }
        });
        Self { addr, is_open }
    }

    fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }
}

async fn node(home: &tempfile::TempDir, name: &str, spec: String) -> Node {
    let config = NodeConfig {
        hostname: Some(name.to_owned()),
        rendezvous: Some(spec),
        home: Some(home.path().to_owned()),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

/// Through the wall, if it is open; the WebSocket is on the registry's port.
fn behind(wall: &Wall, rendezvous: &Rendezvous) -> String {
    format!("registry={},beacon={}", rendezvous.local_addr(), wall.addr)
}

async fn goes_by(node: &Node, transport: &str) -> Duration {
    let begun = Instant::now();
    while node.info().transport != transport {
        assert!(begun.elapsed() < LIMIT, "still by {}", node.info().transport);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

async fn tell(from: &Node, to: &Node, words: &str) {
    let payload = Payload { data: words.to_owned().into(), ..Payload::default() };
    from.send(&PeerRef::Node(to.address().node), payload, LIMIT).await.unwrap();
    let message = poll_fn(|cx| to.poll_message(cx)).await.unwrap();
    assert_eq!(message.payload.data, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_udp_reach_each_other_and_nodes_with_it() {
    let rendezvous = rendezvous().await;
    let home = tempfile::tempdir().unwrap();
    let wall = Wall::before(rendezvous.local_addr()).await;
    let a = node(&home, "a", behind(&wall, &rendezvous)).await;
    let b = node(&home, "b", behind(&wall, &rendezvous)).await;
    let c = node(&home, "c", rendezvous.local_addr().to_string()).await;
    for walled in [&a, &b] {
        let took = goes_by(walled, "websocket").await;
        println!("the WebSocket carried after {took:?}");
    }
    assert_eq!(rendezvous.stats().attached_nodes, 2);
    for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &b)] {
        tell(from, to, "through the wall").await;
    }
    assert_eq!(c.info().transport, "udp");
    for node in [a, b, c] {
        node.close().await;
    }
    rendezvous.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_the_websocket_when_udp_works() {
    let rendezvous = rendezvous().await;
    let home = tempfile::tempdir().unwrap();
    let wall = Wall::before(rendezvous.local_addr()).await;
    let a = node(&home, "a", behind(&wall, &rendezvous)).await;
    let b = node(&home, "b", rendezvous.local_addr().to_string()).await;
    goes_by(&a, "websocket").await;
    tell(&a, &b, "by websocket").await;
    wall.open(true);
    goes_by(&a, "udp").await;
    tell(&a, &b, "by udp").await;
    tell(&b, &a, "and back").await;
    let detached = async {
        while rendezvous.stats().attached_nodes > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, detached).await.unwrap();
    a.close().await;
    b.close().await;
    rendezvous.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_udp_dies_in_mid_life_takes_the_websocket() {
    let rendezvous = rendezvous().await;
    let home = tempfile::tempdir().unwrap();
    let wall = Wall::before(rendezvous.local_addr()).await;
    wall.open(true);
    let a = node(&home, "a", behind(&wall, &rendezvous)).await;
    let b = node(&home, "b", rendezvous.local_addr().to_string()).await;
    tell(&a, &b, "by udp").await;
    assert_eq!(a.info().transport, "udp");
    wall.open(false);
    goes_by(&a, "websocket").await;
    tell(&a, &b, "by websocket").await;
    a.close().await;
    b.close().await;
    rendezvous.shutdown().await;
}

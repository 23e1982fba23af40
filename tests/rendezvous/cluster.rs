//! Two rendezvous that name each other.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::registry::{Request, Response};
use tokio::time::timeout;

use super::PATIENCE;
use super::agent::Agent;

/// Each must name the other, so their ports are chosen beforehand, on addresses that no other test
/// takes ports of.
async fn pair() -> (Rendezvous, Rendezvous) {
    let free = |host| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        listener.local_addr().unwrap()
    };
    let (a, b) = (free(71), free(72));
    let start = |own, other: SocketAddr| {
        let peers = vec![other.to_string()];
        Rendezvous::bind(RendezvousConfig { peers, ..RendezvousConfig::new(own) })
    };
    (start(a, b).await.unwrap(), start(b, a).await.unwrap())
}

/// Sends until something arrives: what beacons tell each other may be lost.
async fn passes(from: &Agent, to: &Agent) -> bool {
    let attempts = async {
        loop {
            from.relay(to, b"PILSacross").await;
            if to.relayed(Duration::from_millis(200)).await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, attempts).await.is_ok()
}

#[tokio::test]
async fn nodes_at_two_beacons_reach_each_other() {
    let (a, b) = pair().await;
    let (alice, bob) = (Agent::join(a.local_addr(), 1).await, Agent::join(b.local_addr(), 2).await);
    assert!(passes(&alice, &bob).await);
    assert!(passes(&bob, &alice).await);
    let Response::BeaconListOk { beacons } = alice.ok(Request::BeaconList {}).await else {
        panic!()
    };
    let addrs: Vec<String> = beacons.into_iter().map(|beacon| beacon.addr).collect();
    assert_eq!(addrs, [a.local_addr().to_string(), b.local_addr().to_string()]);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_node_may_turn_to_a_beacon_whose_registry_does_not_know_it() {
    let (a, b) = pair().await;
    let bob = Agent::join(b.local_addr(), 2).await;
    let alice = Agent { beacon: b.local_addr(), ..Agent::join(a.local_addr(), 1).await };
    alice.prove(&[0; 16]).await;
    alice.meet_challenge().await;
    alice.relay(&bob, b"PILSfrom abroad").await;
    assert_eq!(bob.relayed(PATIENCE).await.unwrap(), b"PILSfrom abroad");
    bob.relay(&alice, b"PILSback").await;
    assert_eq!(alice.relayed(PATIENCE).await.unwrap(), b"PILSback");
    a.shutdown().await;
    b.shutdown().await;
}

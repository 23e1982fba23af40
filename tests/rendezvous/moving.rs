//! Nodes whose address changes, and a beacon that forgot them.

use std::net::SocketAddr;
use std::time::Duration;

use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::BeaconMessage;
use tokio::net::UdpSocket;

use super::agent::Agent;
use super::{PATIENCE, loopback, rendezvous};

/// Another address of this machine, as far as anybody can tell.
async fn elsewhere(host: u8) -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, host], 0))).await.unwrap()
}

#[tokio::test]
async fn a_frame_from_a_new_address_leads_to_a_proof_and_traffic_follows() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let (mut alice, bob) = (Agent::join(addr, 1).await, Agent::join(addr, 2).await);
    alice.prove(&[0; 16]).await;
    alice.meet_challenge().await;

    alice.socket = elsewhere(2).await;
    alice.relay(&bob, b"PILSlost, as it proves nothing").await;
    alice.meet_challenge().await;
    bob.relay(&alice, b"PILSafter her").await;
    assert_eq!(alice.relayed(PATIENCE).await.unwrap(), b"PILSafter her");
    alice.relay(&bob, b"PILSfrom there").await;
    assert_eq!(bob.relayed(PATIENCE).await.unwrap(), b"PILSfrom there");

    // Somebody else says so, from a third address.
    let thief = Agent { socket: elsewhere(3).await, ..Agent::join(addr, 3).await };
    for _ in 0..3 {
        let discover =
            BeaconMessage::Discover { node: alice.id, public_key: None, extended: false };
        thief.send(discover).await;
        thief.receive().await;
    }
    bob.relay(&alice, b"PILSstill hers").await;
    assert_eq!(alice.relayed(PATIENCE).await.unwrap(), b"PILSstill hers");
    assert_eq!(rendezvous.stats().beacon.proofs, 2);
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn after_a_restart_relaying_goes_on_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = RendezvousConfig::new(loopback()).store(dir.path().join("rendezvous.redb"));
    let first = Rendezvous::bind(config.clone()).await.unwrap();
    let addr = first.local_addr();
    let alice = Agent::join(addr, 1).await;
    // Bob is behind a NAT: the registry has another address than the beacon sees.
    let bob = Agent { socket: elsewhere(2).await, ..Agent::join(addr, 2).await };
    bob.prove(&[0; 16]).await;
    bob.meet_challenge().await;
    first.shutdown().await;

    let second = Rendezvous::bind(RendezvousConfig { listen: addr, ..config }).await.unwrap();
    // Toward one who is where the registry says, the first frame arrives.
    let carol = Agent::join(addr, 3).await;
    carol.relay(&alice, b"PILSat once").await;
    assert_eq!(alice.relayed(PATIENCE).await.unwrap(), b"PILSat once");
    // One who is not is found as soon as he says anything, without a discover.
    bob.relay(&carol, b"PILShello?").await;
    bob.meet_challenge().await;
    alice.relay(&bob, b"PILSthere you are").await;
    assert_eq!(bob.relayed(Duration::from_secs(5)).await.unwrap(), b"PILSthere you are");
    second.shutdown().await;
}

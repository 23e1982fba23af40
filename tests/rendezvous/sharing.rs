//! One node that relays too much, beside others. Loopback is not limited, so these tests need
//! another address of this machine.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pilot_agent::proto::beacon::BeaconConfig;
use pilot_agent::server::{Rendezvous, RendezvousConfig};

use super::agent::Agent;

/// An address from which packets would leave; none are sent.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then(|| SocketAddr::new(ip, 0))
}

#[tokio::test]
async fn a_greedy_pair_does_not_starve_another() {
    let Some(at) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let beacon = BeaconConfig { total_bytes_per_sec: 100_000, ..BeaconConfig::default() };
    let config = RendezvousConfig { beacon, ..RendezvousConfig::new(at) };
    let rendezvous = Rendezvous::bind(config).await.unwrap();
    let addr = rendezvous.local_addr();
    let mut agents = Vec::new();
    for seed in 1..=4 {
        agents.push(Agent::join_from(at, addr, seed).await);
    }
    let [greedy, sink, modest, friend] = &agents[..] else { unreachable!() };
    let (mut arrived, rounds) = (0, 100);
    for _ in 0..rounds {
        for _ in 0..50 {
            greedy.relay(sink, &[0x55; 1_200]).await;
        }
        modest.relay(friend, b"PILSmodest").await;
        arrived += usize::from(friend.relayed(Duration::from_secs(2)).await.is_some());
    }
    // The kernel may drop one before the beacon sees it.
    assert!(arrived >= rounds * 9 / 10, "{arrived} of {rounds}");
    assert!(rendezvous.stats().beacon.limited > 0, "{:?}", rendezvous.stats());
    rendezvous.shutdown().await;
}

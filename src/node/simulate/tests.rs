use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::simulator::{Setting, Simulator, Target};
use super::{BadNetwork, Block, Direction, LinkParams, Loss};
use crate::crypto::Identity;
use crate::proto::endpoint::{Endpoint, EndpointConfig};
use crate::proto::path::Remote;
use crate::proto::tunnel::LocalKeys;
use crate::wire::NodeId;
use crate::wire::beacon::BeaconMessage;

const FROM: &str = "192.0.2.1:4000";

fn remote() -> Remote {
    Remote::from(FROM.parse::<std::net::SocketAddr>().unwrap())
}

fn setting(spec: &str) -> Setting {
    Setting { link: spec.parse().unwrap(), block: None, direction: Direction::Both }
}

/// The key request of a node, as it comes directly.
fn direct(node: u32) -> Vec<u8> {
    let mut frame = b"PILK".to_vec();
    frame.extend_from_slice(&node.to_be_bytes());
    frame.resize(40, 0);
    frame
}

fn relayed(node: u32) -> Vec<u8> {
    let (frame, mut out) = (direct(node), Vec::new());
    let sender = NodeId(node);
    BeaconMessage::RelayDeliver { sender, destination: None, frame: &frame }.encode(&mut out);
    out
}

fn arrivals(simulator: &mut Simulator, now: Instant) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| simulator.poll_receive(now)).map(|(_, datagram)| datagram).collect()
}

fn survivors(seed: u64) -> BTreeSet<u32> {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    simulator.start(now, setting(&format!("loss=20%,seed={seed}")), Target::Everybody);
    for number in 0..1_000u32 {
        simulator.receive(now, remote(), &number.to_be_bytes());
    }
    let number = |datagram: Vec<u8>| u32::from_be_bytes(datagram.try_into().unwrap());
    arrivals(&mut simulator, now).into_iter().map(number).collect()
}

#[test]
fn what_is_lost_follows_from_the_seed() {
    assert_eq!(survivors(1), survivors(1));
    assert_ne!(survivors(1), survivors(2));
    assert!((700..900).contains(&survivors(1).len()));
}

#[test]
fn a_delay_is_kept_to_the_instant() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    simulator.start(now, setting("delay=50ms"), Target::Everybody);
    simulator.receive(now, remote(), b"hello");
    let due = now + Duration::from_millis(50);
    assert_eq!(simulator.next_arrival(), Some(due));
    assert!(simulator.poll_receive(due - Duration::from_nanos(1)).is_none());
    assert_eq!(simulator.poll_receive(due), Some((remote(), b"hello".to_vec())));
    assert_eq!(simulator.next_arrival(), None);
}

#[test]
fn simulations_add_up_and_the_last_one_to_end_leaves_nothing() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    let near = simulator.start(now, setting("delay=10ms"), Target::Everybody);
    let far = simulator.start(now, setting("delay=5ms"), Target::Everybody);
    simulator.receive(now, remote(), b"hello");
    let due = now + Duration::from_millis(15);
    assert!(arrivals(&mut simulator, due - Duration::from_nanos(1)).is_empty());
    // It has left the first, and arrives when the second lets it, not when somebody looked.
    assert_eq!(simulator.next_arrival(), Some(due));
    assert_eq!(arrivals(&mut simulator, due), [b"hello".to_vec()]);
    simulator.stop(now, near).unwrap();
    assert!(!simulator.is_over());
    assert_eq!(simulator.stop(now, far).unwrap().incoming.delivered, 1);
    assert!(simulator.is_over());
    assert!(simulator.stop(now, far).is_none());
}

#[test]
fn what_is_on_its_way_arrives_when_a_simulation_ends() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    let id = simulator.start(now, setting("delay=10s"), Target::Everybody);
    for number in 0..10u8 {
        simulator.receive(now, remote(), &[number]);
    }
    assert_eq!(simulator.stop(now, id).unwrap().incoming.delivered, 10);
    assert_eq!(arrivals(&mut simulator, now), (0..10).map(|n| vec![n]).collect::<Vec<_>>());
}

#[test]
fn blocking_the_direct_way_leaves_the_beacon() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    let block = Setting { block: Some(Block::Direct), ..setting("") };
    let id = simulator.start(now, block, Target::Everybody);
    for datagram in [direct(7), relayed(7), b"PILP".to_vec()] {
        simulator.receive(now, remote(), &datagram);
    }
    assert_eq!(arrivals(&mut simulator, now), [relayed(7)]);
    assert_eq!(simulator.counters(id).unwrap().incoming.blocked, 2);
}

#[test]
fn a_simulation_for_one_peer_leaves_the_others() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    let block = Setting { block: Some(Block::Udp), ..setting("") };
    let id = simulator.start(now, block, Target::Unknown);
    simulator.receive(now, remote(), &direct(7));
    simulator.aim(id, Target::Peer(NodeId(7)));
    for node in [7, 8] {
        simulator.receive(now, remote(), &direct(node));
        simulator.receive(now, remote(), &relayed(node));
    }
    assert_eq!(arrivals(&mut simulator, now), [direct(7), direct(8), relayed(8)]);
}

#[test]
fn what_is_held_is_bounded() {
    let (mut simulator, now) = (Simulator::default(), Instant::now());
    let id = simulator.start(now, setting("delay=1s"), Target::Everybody);
    for _ in 0..1_100 {
        simulator.receive(now, remote(), &[0; 65_000]);
    }
    let counters = simulator.counters(id).unwrap().incoming;
    assert_eq!((counters.sent, counters.dropped), (1_100, 1_100 - (64 << 20) / 65_000));
}

#[test]
fn what_the_endpoint_sends_meets_it_too() {
    let now = Instant::now();
    let identity = Identity::from_seed(&[1; 32]);
    let local = LocalKeys::new(NodeId(7), identity.into());
    let mut endpoint = Endpoint::new(EndpointConfig::default(), local, [1; 32]);
    endpoint.set_beacon(Some(remote().addr));
    let mut simulator = Simulator::default();
    let outgoing = Setting { direction: Direction::Outgoing, ..setting("delay=5ms") };
    simulator.start(now, outgoing, Target::Everybody);
    for _ in 0..3 {
        endpoint.discover();
    }
    let mut run = Vec::new();
    assert_eq!(simulator.poll_transmit(now, &mut endpoint, &mut run, None), None);
    simulator.receive(now, remote(), b"unharmed");
    assert_eq!(arrivals(&mut simulator, now), [b"unharmed".to_vec()]);
    let due = now + Duration::from_millis(5);
    let mut sent = Vec::new();
    while let Some(transmit) = simulator.poll_transmit(due, &mut endpoint, &mut run, None) {
        assert_eq!(transmit.destination, remote());
        sent.extend(run.drain(..).as_slice().chunks(transmit.segment_size).map(<[u8]>::len));
    }
    // A discover is two datagrams: one for any beacon, one for a beacon of ours.
    assert_eq!(sent, [5, 117].repeat(3));
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    let link = LinkParams::default();
    let cases = [
        ("loss", LinkParams { loss: Loss::Bernoulli(1.5), ..link }),
        ("loss", LinkParams { loss: Loss::Bernoulli(f64::NAN), ..link }),
        ("duplicate", LinkParams { duplicate: -0.1, ..link }),
        ("reorder", LinkParams { reorder: 2.0, ..link }),
        ("delay", LinkParams { delay: Duration::from_secs(61), ..link }),
        ("rate", LinkParams { rate: Some(0), ..link }),
        ("mtu", LinkParams { mtu: Some(0), ..link }),
    ];
    for (name, link) in cases {
        let error = BadNetwork { link, ..BadNetwork::default() }.validate().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(BadNetwork::default().validate().is_ok());
}

//! What one node may take, and that others have theirs.

use super::*;
use crate::wire::beacon::RELAY_HEADER_LEN;

/// Nodes 100 and up, from an address each.
struct Many;

impl Roster for Many {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        (node.0 >= 100).then(|| at(node.0))
    }

    fn public_key(&self, _node: NodeId) -> Option<[u8; 32]> {
        None
    }

    fn may_punch(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

fn at(node: u32) -> SocketAddr {
    let [_, a, b, c] = node.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 4_000))
}

const FRAME: usize = 1_250;

/// How many of `count` frames are passed on.
fn send(beacon: &mut Beacon, now: Instant, from: u32, count: usize) -> usize {
    let frame = [0; FRAME - RELAY_HEADER_LEN];
    (0..count)
        .filter(|_| {
            let mut datagram = relay_datagram(from, 100, &frame);
            let action = beacon.handle_datagram(now, at(from), &mut datagram, &Many);
            matches!(action, Action::Forward { .. })
        })
        .count()
}

#[test]
fn a_node_has_its_bytes_a_second() {
    let config = BeaconConfig { relay_bytes_per_sec: 1_250_000, ..BeaconConfig::default() };
    let (mut beacon, start) = (new_beacon(&config), Instant::now());
    let passed: usize =
        (0..1_000).map(|ms| send(&mut beacon, start + Duration::from_millis(ms), 101, 10)).sum();
    // 1,000 a second, and a quarter second's worth ahead.
    assert!((1_240..1_260).contains(&passed), "{passed}");
    assert!(send(&mut beacon, start, 102, 10) == 10, "others have their own");
}

#[test]
fn a_greedy_node_gets_what_others_leave_and_takes_nothing_from_them() {
    // 10,000 frames a second in all.
    let config = BeaconConfig { total_bytes_per_sec: 12_500_000, ..BeaconConfig::default() };
    let (mut beacon, start) = (new_beacon(&config), Instant::now());
    let mut greedy = [0; 5];
    let mut modest = [0; 5];
    for ms in 0..5_000_u64 {
        let now = start + Duration::from_millis(ms);
        let second = usize::try_from(ms / 1_000).unwrap();
        // It sends four times of what the relay carries, and is first each time.
        greedy[second] += send(&mut beacon, now, 101, 40);
        if (1..4).contains(&second) && ms % 10 == 0 {
            // 40 others send 100 frames a second each: less than their share.
            modest[second] += (200..240).map(|node| send(&mut beacon, now, node, 1)).sum::<usize>();
        }
    }
    assert_eq!(modest, [0, 4_000, 4_000, 4_000, 0], "not one frame of theirs is lost");
    assert!(greedy[0] >= 9_900, "alone it has everything: {greedy:?}");
    for (greedy, modest) in greedy.iter().zip(modest).skip(1).take(3) {
        // What it had ahead at first, a tenth of a second's worth, is paid for.
        assert!((8_900..10_600).contains(&(greedy + modest)), "{greedy} {modest}");
    }
    assert!(greedy[4] >= 9_700, "and again afterwards: {greedy:?}");
}

#[test]
fn two_greedy_nodes_share_alike_whoever_is_first() {
    let config = BeaconConfig { total_bytes_per_sec: 12_500_000, ..BeaconConfig::default() };
    let (mut beacon, start) = (new_beacon(&config), Instant::now());
    let (mut first, mut second) = (0, 0);
    for ms in 0..4_000 {
        let now = start + Duration::from_millis(ms);
        first += send(&mut beacon, now, 101, 40);
        second += send(&mut beacon, now, 102, 20);
    }
    assert!((38_000..42_000).contains(&(first + second)), "{first} {second}");
    assert!(second * 10 >= first * 8, "{first} {second}");
}

#[test]
fn one_address_does_not_fill_the_table() {
    let config = BeaconConfig { max_nodes_per_address: 3, ..BeaconConfig::default() };
    let (mut beacon, now) = (new_beacon(&config), Instant::now());
    for node in 100..110 {
        let mut from = at(7);
        from.set_port(u16::try_from(node).unwrap());
        let message =
            BeaconMessage::Discover { node: NodeId(node), public_key: None, extended: false };
        let _ = beacon.handle_datagram(now, from, &mut encoded(message), &Many);
    }
    let noted = |beacon: &Beacon| {
        (100..110).filter(|node| beacon.endpoint(now, NodeId(*node)).is_some()).count()
    };
    assert_eq!(noted(&beacon), 3);
    // One that moves away makes room, and one may not move in where there is none.
    let mut message = relay_datagram(100, 101, b"PILSframe");
    let _ = beacon.handle_datagram(now, at(7), &mut message, &Many);
    let go = BeaconMessage::Discover { node: NodeId(100), public_key: None, extended: false };
    let _ = beacon.handle_datagram(now, at(100), &mut encoded(go), &Many);
    let come = BeaconMessage::Discover { node: NodeId(109), public_key: None, extended: false };
    let _ = beacon.handle_datagram(now, at(7), &mut encoded(come), &Many);
    assert_eq!(beacon.endpoint(now, NodeId(100)), Some(at(100)));
    assert_eq!(beacon.endpoint(now, NodeId(109)), Some(at(7)));
    assert_eq!(noted(&beacon), 4);
}

use proptest::prelude::*;

use super::noted::SILENT_AFTER;
use super::*;
use crate::crypto::Identity;

mod bounds;
mod cluster;
mod moving;

/// Nodes 1 to 9 are registered from 203.0.113.<node>; 9 is private, and 8 claims no port.
struct Registry;

impl Roster for Registry {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        let port = if node.0 == 8 { 0 } else { 4000 };
        (node.0 < 10).then(|| SocketAddr::new(home(node.0).ip(), port))
    }

    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        (node.0 < 10).then(|| identity(node.0).public_key())
    }

    fn may_punch(&self, _requester: NodeId, target: NodeId) -> bool {
        target.0 < 9
    }
}

fn identity(node: u32) -> Identity {
    Identity::from_seed(&[u8::try_from(node).unwrap(); 32])
}

fn home(node: u32) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, u8::try_from(node).unwrap()], 4000))
}

fn away(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], port))
}

fn discover(beacon: &mut Beacon, now: Instant, from: SocketAddr, node: u32) -> Action {
    let message = BeaconMessage::Discover { node: NodeId(node), public_key: None, extended: false };
    beacon.handle_datagram(now, from, &mut encoded(message), &Registry)
}

fn punch(beacon: &mut Beacon, now: Instant, from: SocketAddr, a: u32, b: u32) -> Action {
    let message =
        BeaconMessage::PunchRequest { requester: NodeId(a), target: NodeId(b), grant: None };
    beacon.handle_datagram(now, from, &mut encoded(message), &Registry)
}

fn relay_datagram(from: u32, to: u32, frame: &[u8]) -> Vec<u8> {
    encoded(BeaconMessage::Relay { sender: NodeId(from), destination: NodeId(to), frame })
}

/// Where the frame goes, and as what.
fn relay(
    beacon: &mut Beacon,
    now: Instant,
    source: SocketAddr,
    from: u32,
    to: u32,
) -> Option<(SocketAddr, Vec<u8>)> {
    let mut datagram = relay_datagram(from, to, b"PILSframe");
    match beacon.handle_datagram(now, source, &mut datagram, &Registry) {
        Action::Forward { to, start } => Some((to, datagram[start..].to_vec())),
        _ => None,
    }
}

fn new_beacon(config: &BeaconConfig) -> Beacon {
    Beacon::new(config, [42; 32])
}

fn beacon_with(nodes: &[u32]) -> (Beacon, Instant) {
    let (mut beacon, now) = (new_beacon(&BeaconConfig::default()), Instant::now());
    for &node in nodes {
        let _ = discover(&mut beacon, now, home(node), node);
    }
    (beacon, now)
}

#[test]
fn everybody_learns_their_endpoint_but_only_registered_nodes_are_noted() {
    let (mut beacon, now) = beacon_with(&[]);
    for node in [0, 1, 77] {
        let from = home(1);
        let Action::Send(sent) = discover(&mut beacon, now, from, node) else { panic!() };
        let reply = encoded(BeaconMessage::DiscoverReply { endpoint: from });
        assert_eq!(sent, [(from, reply)]);
        assert_eq!(beacon.endpoint(now, NodeId(node)).is_some(), node == 1);
    }
}

#[test]
fn a_punch_introduces_both() {
    let (mut beacon, now) = beacon_with(&[1, 2]);
    let command = |endpoint| encoded(BeaconMessage::PunchCommand { endpoint });
    let expected = Action::Send(vec![(home(1), command(home(2))), (home(2), command(home(1)))]);
    assert_eq!(punch(&mut beacon, now, home(1), 1, 2), expected);
}

#[test]
fn a_punch_leads_to_nobody_unknown_private_or_asked_for_by_another() {
    let (mut beacon, now) = beacon_with(&[1, 2, 9]);
    for (from, requester, target) in
        [(home(1), 1, 33), (home(1), 1, 9), (away(1), 1, 2), (away(1), 3, 2), (home(1), 1, 1)]
    {
        assert_eq!(punch(&mut beacon, now, from, requester, target), Action::Ignore);
    }
    assert!(matches!(punch(&mut beacon, now, home(9), 9, 1), Action::Send(_)));
}

#[test]
fn a_frame_is_relayed_with_its_sender_and_not_a_byte_more() {
    let (mut beacon, now) = beacon_with(&[1, 2]);
    let (to, bytes) = relay(&mut beacon, now, home(1), 1, 2).unwrap();
    let delivery =
        BeaconMessage::RelayDeliver { sender: NodeId(1), destination: None, frame: b"PILSframe" };
    assert_eq!((to, bytes), (home(2), encoded(delivery)));

    let extended = BeaconMessage::Discover { node: NodeId(2), public_key: None, extended: true };
    let _ = beacon.handle_datagram(now, home(2), &mut encoded(extended), &Registry);
    let (_, bytes) = relay(&mut beacon, now, home(1), 1, 2).unwrap();
    let delivery = BeaconMessage::RelayDeliver {
        sender: NodeId(1),
        destination: Some(NodeId(2)),
        frame: b"PILSframe",
    };
    assert_eq!(bytes, encoded(delivery));
}

#[test]
fn relaying_is_for_those_whom_the_beacon_or_the_registry_knows() {
    let (mut beacon, mut now) = beacon_with(&[1, 2]);
    let _ = discover(&mut beacon, now, away(8), 8);
    assert!(relay(&mut beacon, now, home(1), 1, 8).is_some());
    assert_eq!(relay(&mut beacon, now, home(1), 1, 33), None, "the receiver is unknown");
    assert_eq!(relay(&mut beacon, now, away(1), 33, 2), None, "the sender is unknown");
    assert_eq!(relay(&mut beacon, now, away(1), 1, 2), None, "that is not the sender");
    assert_eq!(relay(&mut beacon, now, away(1), 3, 2), None, "nor is that");
    now += EXPIRES_AFTER;
    assert_eq!(relay(&mut beacon, now, home(1), 1, 8), None, "it was noted too long ago");
    assert_eq!(beacon.stats().relayed, 1);
    assert_eq!(beacon.stats().dropped, 5);
}

#[test]
fn a_beacon_that_was_just_started_believes_the_registry() {
    let (mut beacon, now) = beacon_with(&[]);
    let mut rebound = home(1);
    rebound.set_port(61_000);
    let (to, _) = relay(&mut beacon, now, rebound, 1, 2).unwrap();
    assert_eq!(to, home(2));
    let (to, _) = relay(&mut beacon, now, home(2), 2, 1).unwrap();
    assert_eq!(to, rebound, "and notes who speaks");
    assert!(matches!(punch(&mut beacon, now, home(3), 3, 4), Action::Send(_)));
}

#[test]
fn a_node_may_change_its_port_at_once_and_roam_to_where_it_registered() {
    let (mut beacon, now) = beacon_with(&[1]);
    let mut rebound = home(1);
    rebound.set_port(5000);
    let _ = discover(&mut beacon, now, rebound, 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(rebound));

    // It is somewhere else, as the registry has it somewhere else.
    let (mut beacon, now) = (new_beacon(&BeaconConfig::default()), now);
    let _ = discover(&mut beacon, now, away(1), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(away(1)));
    let _ = discover(&mut beacon, now, home(1), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)));
}

#[test]
fn a_stranger_cannot_take_a_node_that_is_there() {
    let (mut beacon, mut now) = beacon_with(&[1]);
    for _ in 0..10 {
        now += SILENT_AFTER - Duration::from_secs(1);
        let Action::Send(_) = discover(&mut beacon, now, away(1), 1) else { panic!() };
        assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)));
        let _ = discover(&mut beacon, now, home(1), 1);
    }
    assert_eq!(beacon.stats().refused_moves, 10);
    now += SILENT_AFTER;
    let _ = discover(&mut beacon, now, away(1), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(away(1)), "silence is given up");
    let _ = discover(&mut beacon, now, home(1), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)), "and taken back at once");
}

#[test]
fn an_attached_node_relays_with_nodes_of_both_kinds_and_is_not_introduced() {
    let (mut beacon, now) = beacon_with(&[1]);
    for node in [2, 8] {
        beacon.attach(now, NodeId(node));
    }
    let [at_2, at_8] = [2, 8].map(|node| attached::address_of(NodeId(node)));
    assert_eq!(attached::node_at(at_8), Some(NodeId(8)));
    for (source, from, endpoint, to) in
        [(home(1), 1, at_2, 2), (at_2, 2, home(1), 1), (at_2, 2, at_8, 8), (at_8, 8, at_2, 2)]
    {
        assert_eq!(relay(&mut beacon, now, source, from, to).unwrap().0, endpoint);
    }
    assert_eq!(punch(&mut beacon, now, home(1), 1, 2), Action::Ignore);
    assert_eq!(punch(&mut beacon, now, at_2, 2, 1), Action::Ignore);
    assert_eq!(beacon.stats().punches, 0);
}

#[test]
fn an_attached_node_speaks_for_itself_only() {
    let (mut beacon, now) = beacon_with(&[1]);
    beacon.attach(now, NodeId(2));
    let at_2 = attached::address_of(NodeId(2));
    assert_eq!(relay(&mut beacon, now, at_2, 1, 2), None);
    for other in [1, 3] {
        assert_eq!(discover(&mut beacon, now, at_2, other), Action::Ignore);
        assert_ne!(beacon.endpoint(now, NodeId(other)), Some(at_2));
    }
}

#[test]
fn only_an_attached_node_that_also_registered_an_endpoint_moves_to_udp() {
    let (mut beacon, mut now) = beacon_with(&[2]);
    for node in [2, 8] {
        beacon.attach(now, NodeId(node));
    }
    now += SILENT_AFTER * 2;
    // 8 registered from there as well, but without a port: this is somebody else behind its NAT.
    let _ = discover(&mut beacon, now, home(8), 8);
    let _ = discover(&mut beacon, now, away(1), 2);
    for node in [2, 8] {
        assert_eq!(beacon.endpoint(now, NodeId(node)), Some(attached::address_of(NodeId(node))));
    }
    let _ = discover(&mut beacon, now, home(2), 2);
    assert_eq!(beacon.endpoint(now, NodeId(2)), Some(home(2)));
    beacon.detach(NodeId(2));
    assert_eq!(beacon.endpoint(now, NodeId(2)), Some(home(2)));
    beacon.detach(NodeId(8));
    assert_eq!(beacon.endpoint(now, NodeId(8)), None);
}

#[test]
fn an_attached_node_that_shows_life_is_not_forgotten() {
    let (mut beacon, mut now) = beacon_with(&[]);
    beacon.attach(now, NodeId(2));
    for _ in 0..10 {
        now += EXPIRES_AFTER / 2;
        beacon.touch(now, NodeId(2));
        beacon.handle_timeout(now);
    }
    assert!(beacon.endpoint(now, NodeId(2)).is_some());
}

#[test]
fn one_address_cannot_flood() {
    let (mut beacon, now) = beacon_with(&[1, 2]);
    let relayed = (0..60_000).filter(|_| relay(&mut beacon, now, home(1), 1, 2).is_some()).count();
    assert!((25_000..25_010).contains(&relayed), "{relayed}");
    let answered =
        (0..9000).filter(|_| discover(&mut beacon, now, away(1), 0) != Action::Ignore).count();
    assert!((4_000..4_005).contains(&answered), "{answered}");
    assert!(relay(&mut beacon, now, home(2), 2, 1).is_some(), "others are not disturbed");
    let later = now + Duration::from_secs(1);
    assert!(relay(&mut beacon, later, home(1), 1, 2).is_some());
}

#[test]
fn tables_are_bounded() {
    let config = BeaconConfig { max_nodes: 2, max_sources: 3, ..BeaconConfig::default() };
    let (mut beacon, now) = (new_beacon(&config), Instant::now());
    for node in 1..=3 {
        let _ = discover(&mut beacon, now, home(node), node);
    }
    assert_eq!(beacon.endpoint(now, NodeId(3)), None);
    assert_eq!(discover(&mut beacon, now, home(4), 4), Action::Ignore, "no room to watch it");
    let later = now + EXPIRES_AFTER;
    beacon.handle_timeout(later);
    let _ = discover(&mut beacon, later, home(4), 4);
    assert_eq!(beacon.endpoint(later, NodeId(4)), Some(home(4)));
    assert_eq!(beacon.notify(later, NodeId(4)), Some((home(4), vec![0x0a, 1])));
    assert_eq!(beacon.notify(later, NodeId(1)), None);
}

proptest! {
    #[test]
    fn whatever_comes_nothing_much_larger_goes_out(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..160),
        kind in 0_u8..12,
        ids: (u8, u8),
    ) {
        // Steer most inputs past the first checks.
        for (at, byte) in [(0, kind), (1, 0), (2, 0), (3, 0), (4, ids.0 % 11)] {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        let (mut beacon, now) = beacon_with(&[1, 2, 9]);
        let len = bytes.len();
        match beacon.handle_datagram(now, home(1), &mut bytes, &Registry) {
            Action::Ignore => {}
            Action::Send(sent) => {
                let to_asker = sent.iter().filter(|(to, _)| *to == home(1));
                prop_assert!(to_asker.map(|(_, bytes)| bytes.len()).sum::<usize>() <= len + 15);
            }
            Action::Forward { start, .. } => prop_assert!(start <= len),
            Action::Verify(_) => prop_assert!(false, "that cookie cannot be guessed"),
        }
        let sent: usize = std::iter::from_fn(|| beacon.poll_transmit()).map(|(_, sent)| sent.len()).sum();
        prop_assert!(sent <= len);
    }
}

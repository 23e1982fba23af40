//! Where the rendezvous sees a node that is starting: asked for from the node's own socket, as a
//! NAT gives each socket a port of its own, while the connection to the registry is being made.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::net::registry_client::RegistryClient;
use crate::net::udp::{RecvBatch, UdpIo};
use crate::net::watch::Interest;
use crate::wire::NodeId;
use crate::wire::beacon::BeaconMessage;

/// The question is repeated: it may be lost.
const REPEAT: Duration = Duration::from_millis(250);
/// Once the connection stands, the answer should be here: it takes one round trip, as it does.
const MIN_GRACE: Duration = Duration::from_millis(5);
const MAX_GRACE: Duration = Duration::from_millis(50);
/// A registry that cannot be connected to for this long has other troubles.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks `beacons`, which are addresses of one, at most one of each family; returns the one that
/// the node is to use, and what it saw if it answered in time. It does not take longer than the
/// connection to the registry, or hardly.
pub(super) async fn first_look(
    udp: &UdpIo,
    beacons: &[SocketAddr],
    registry: &RegistryClient,
) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let first = *beacons.first()?;
    let mut link = registry.link();
    registry.prepare();
    let begun = Instant::now();
    let mut answers = Vec::new();
    // Of the family that the registry was reached by, as it takes the address from there.
    let chosen = |local: Option<SocketAddr>| {
        let fits = |beacon: &&SocketAddr| Some(beacon.is_ipv4()) == local.map(|a| a.is_ipv4());
        beacons.iter().find(fits).copied().unwrap_or(first)
    };
    let answer_of = |beacon, answers: &[(SocketAddr, SocketAddr)]| {
        answers.iter().find(|(from, _)| *from == beacon).map(|(_, seen)| *seen)
    };
    let connected = async {
        let up = link.wait_for(Option::is_some).await;
        up.ok().and_then(|local| *local).map(|local| SocketAddr::new(local.ip().to_canonical(), 0))
    };
    let local = tokio::select! {
        connected = timeout_at(begun + PATIENCE, connected) => connected.ok().flatten(),
        () = listen(udp, beacons, &mut answers, None) => None,
    };
    let beacon = chosen(local);
    if answer_of(beacon, &answers).is_none() && local.is_some() {
        let grace = (begun.elapsed() / 2).clamp(MIN_GRACE, MAX_GRACE);
        tokio::select! {
            () = sleep(grace) => {}
            () = listen(udp, beacons, &mut answers, Some(beacon)) => {}
        }
    }
    Some((beacon, answer_of(beacon, &answers)))
}

/// Asks and notes answers; returns when `wanted` has answered.
async fn listen(
    udp: &UdpIo,
    beacons: &[SocketAddr],
    answers: &mut Vec<(SocketAddr, SocketAddr)>,
    wanted: Option<SocketAddr>,
) {
    let mut question = Vec::new();
    // Node 0 is nobody: this asks without being noted.
    BeaconMessage::Discover { node: NodeId(0), public_key: None, extended: false }
        .encode(&mut question);
    let mut batch = RecvBatch::default();
    let mut ask_at = Instant::now();
    let is_wanted = |answers: &[(SocketAddr, SocketAddr)]| {
        wanted.is_some() && answers.iter().any(|(from, _)| Some(*from) == wanted)
    };
    loop {
        if ask_at <= Instant::now() {
            for beacon in beacons {
                // It may be of a family that this machine has no way for.
                let _ = udp.try_send(*beacon, &question, question.len());
            }
            ask_at = Instant::now() + REPEAT;
        }
        let readable = async {
            match udp.watch(Interest::Readable) {
                Ok(watch) => watch.ready().await.is_ok(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            is_readable = readable => {
                if !is_readable {
                    return;
                }
                if udp.try_recv(&mut batch).is_ok() {
                    batch.for_each(|from, datagram| {
                        if let Ok(BeaconMessage::DiscoverReply { endpoint }) =
                            BeaconMessage::parse(datagram)
                            && beacons.contains(&from)
                            && answers.iter().all(|(known, _)| *known != from)
                        {
                            answers.push((from, endpoint));
                        }
                    });
                }
                if is_wanted(answers) {
                    return;
                }
            }
            () = sleep_until(ask_at) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::net::registry_client::RegistryTimeouts;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A beacon that answers each discover of nobody with `seen`, after `losing` of them.
    async fn beacon(seen: SocketAddr, losing: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 100];
            for n in 0.. {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let asked = BeaconMessage::parse(&buffer[..len]).unwrap();
                assert!(matches!(asked, BeaconMessage::Discover { node: NodeId(0), .. }));
                if n >= losing {
                    let mut reply = Vec::new();
                    BeaconMessage::DiscoverReply { endpoint: seen }.encode(&mut reply);
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        addr
    }

    fn seen() -> SocketAddr {
        "203.0.113.9:61000".parse().unwrap()
    }

    #[tokio::test]
    async fn the_endpoint_that_a_nat_shows_is_learnt_while_connecting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let registry = RegistryClient::new(addr, RegistryTimeouts::default());
        let udp = UdpIo::bind("[::]:0".parse().unwrap()).unwrap();
        let v4 = beacon(seen(), 0).await;
        let v6 = "[::1]:9".parse().unwrap();
        let look = tokio::time::timeout(LIMIT, first_look(&udp, &[v6, v4], &registry)).await;
        assert_eq!(look.unwrap(), Some((v4, Some(seen()))));
    }

    #[tokio::test]
    async fn a_beacon_that_is_silent_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let registry = RegistryClient::new(addr, RegistryTimeouts::default());
        let udp = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = beacon(seen(), usize::MAX).await;
        let look = tokio::time::timeout(LIMIT, first_look(&udp, &[silent], &registry)).await;
        assert_eq!(look.unwrap(), Some((silent, None)));
    }
}

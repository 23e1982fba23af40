//! STUN at a real rendezvous, on loopback: the beacon's port and the second one.

use std::net::SocketAddr;
use std::time::Duration;

use pilot_agent::proto::nat::{Behavior, NatDetector, SOCKETS, StunServers};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::stun::{BindingRequest, BindingSuccess, StunMessage};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(10);

async fn rendezvous() -> Rendezvous {
    let config = RendezvousConfig::new("127.0.0.1:0".parse().unwrap());
    Rendezvous::bind(RendezvousConfig { stun_port: Some(0), ..config }).await.unwrap()
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// The answer that comes to `socket`, and from where; asked again until it comes.
async fn answer(
    asker: &UdpSocket,
    socket: &UdpSocket,
    to: SocketAddr,
    request: BindingRequest,
) -> (BindingSuccess, SocketAddr) {
    let mut buffer = [0; 512];
    let asking = async {
        loop {
            asker.send_to(&request.encode(), to).await.unwrap();
            let came = timeout(Duration::from_millis(300), socket.recv_from(&mut buffer)).await;
            let Ok(Ok((len, from))) = came else { continue };
            match StunMessage::parse(&buffer[..len]) {
                Ok(StunMessage::Success(success)) if success.transaction == request.transaction => {
                    return (success, from);
                }
                _ => {}
            }
        }
    };
    timeout(LIMIT, asking).await.expect("an answer")
}

#[tokio::test]
async fn both_ports_answer_each_for_the_other_and_to_other_ports() {
    let server = rendezvous().await;
    let (first, (a, b)) = (server.local_addr(), (socket().await, socket().await));
    let request = BindingRequest { transaction: [1; 12], ..BindingRequest::default() };

    let (success, from) = answer(&a, &a, first, request).await;
    assert_eq!((success.mapped, from), (a.local_addr().unwrap(), first));
    let second = SocketAddr::new(first.ip(), success.other.unwrap().port());
    assert_ne!(second, first);

    let (success, from) =
        answer(&a, &a, second, BindingRequest { transaction: [2; 12], ..request }).await;
    assert_eq!((success.mapped, from), (a.local_addr().unwrap(), second));
    assert_eq!(success.other.unwrap().port(), first.port());

    let changed = BindingRequest { transaction: [3; 12], change_port: true, ..request };
    assert_eq!(answer(&a, &a, first, changed).await.1, second);

    let elsewhere = b.local_addr().unwrap().port();
    let elsewhere =
        BindingRequest { transaction: [4; 12], response_port: Some(elsewhere), ..request };
    let (success, from) = answer(&a, &b, first, elsewhere).await;
    assert_eq!((success.mapped, from), (a.local_addr().unwrap(), first));
}

#[tokio::test]
async fn on_loopback_there_is_neither_nat_nor_filter() {
    let server = rendezvous().await;
    let servers = StunServers { first: server.local_addr(), other: None };
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(socket().await);
    }
    let local = std::array::from_fn(|n| sockets[n].local_addr().unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let now = || Instant::now().into_std();
    let mut detector = NatDetector::new(now(), servers, local, &mut rng);
    let mut buffer = [0; 512];
    let detecting = async {
        loop {
            while let Some(probe) = detector.poll_transmit(now()) {
                sockets[probe.socket].send_to(&probe.datagram, probe.to).await.unwrap();
            }
            if detector.poll_timeout(now()).is_none() {
                return detector.kind();
            }
            for (n, socket) in sockets.iter().enumerate() {
                let came = timeout(Duration::from_millis(5), socket.recv_from(&mut buffer)).await;
                if let Ok(Ok((len, _))) = came {
                    detector.handle_datagram(now(), n, &buffer[..len], &mut rng);
                }
            }
        }
    };
    let kind = timeout(LIMIT, detecting).await.unwrap();
    assert_eq!((kind.mapping, kind.filtering), (Behavior::Open, Behavior::EndpointIndependent));
}

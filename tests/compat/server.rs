//! The rendezvous' side: what is spoken on its port, who is let in, who reaches whom.

use std::net::SocketAddr;
use std::time::Duration;

use pilot_agent::crypto::Identity;
use pilot_agent::net::compat_client::{self, CompatError};
use pilot_agent::net::dial::{CompatUrl, DialError, Proxies, Server};
use pilot_agent::net::registry_client::{RegistryClient, RegistryTimeouts};
use pilot_agent::net::tls::{self, Fingerprint, TlsError, Trust};
use pilot_agent::server::{CertificateFiles, Rendezvous, RendezvousConfig};
use pilot_agent::wire::registry::{Base64, Register, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::support::{
    Agent, PATIENCE, closed, delivery, discover, receive, relay, rendezvous, send, server,
};

async fn get(mut stream: impl tokio::io::AsyncRead + AsyncWriteExt + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn one_port_speaks_http_and_the_registry_with_and_without_tls() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let trust = Trust { pin: rendezvous.fingerprint(), pin_only: true };
    let plain = TcpStream::connect(addr).await.unwrap();
    assert!(get(plain, "/").await.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    let stream = TcpStream::connect(addr).await.unwrap();
    let stream = tls::connect(trust, "localhost", stream).await.unwrap();
    assert!(get(stream, "/healthz").await.ends_with("\r\n\r\nok\n"));
    let pinned = RegistryClient::of(server(addr, &rendezvous), RegistryTimeouts::default());
    let plain = RegistryClient::new(addr.to_string(), RegistryTimeouts::default());
    for client in [plain, pinned] {
        let answer = client.call(Request::BeaconList {}).await.unwrap();
        assert!(matches!(answer, Response::BeaconListOk { .. }));
    }
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_second_address_does_the_same_and_everybody_learns_the_fingerprint() {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = RendezvousConfig {
        tls_listen: Some(listen),
        ..RendezvousConfig::new(listen).store(dir.path().join("r.redb"))
    };
    let rendezvous = Rendezvous::bind(config.clone()).await.unwrap();
    let tls = server(rendezvous.tls_addr().unwrap(), &rendezvous);
    let agent = Agent::join_by(tls, 1, "0.0.0.0:0").await;
    let mut socket = agent.connect().await.unwrap();
    send(&mut socket, discover(&agent)).await;
    assert_eq!(receive(&mut socket).await[0], 0x02);
    let fingerprint = rendezvous.fingerprint();
    let key = Base64(agent.identity.public_key());
    let register = Register { relay_only: true, ..Register::new(key, "0.0.0.0:0") };
    let request = Request::Register(register).signed(|text| agent.identity.sign(text));
    let answer = agent.registry.call(request).await.unwrap();
    let Response::RegisterOk { tls_fingerprint, .. } = answer else { panic!() };
    assert_eq!(tls_fingerprint.parse::<Fingerprint>().ok(), fingerprint);
    rendezvous.shutdown().await;
    // It is the same at the next start, and the operator may use it by name.
    let pem = dir.path().join("r.tls.pem");
    let certificate = Some(CertificateFiles { certificate: pem.clone(), key: pem });
    for certificate in [None, certificate] {
        let again = Rendezvous::bind(RendezvousConfig { certificate, ..config.clone() });
        let again = again.await.unwrap();
        assert_eq!(again.fingerprint(), fingerprint);
        again.shutdown().await;
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_with_advice() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let compat: CompatUrl = format!("wss://{addr}").parse().unwrap();
    let wrong = Some(Fingerprint([7; 32]));
    for pin in [None, wrong] {
        let server = Server::new(addr.to_string(), Some(compat.clone()), pin, Proxies::default());
        let identity = Identity::from_seed(&[1; 32]);
        let node = pilot_agent::wire::NodeId(70_000);
        let error = compat_client::connect(&server, node, &identity).await.unwrap_err();
        let CompatError::Dial(DialError::Tls(error)) = error else { panic!("{error}") };
        let is_expected = matches!(error, TlsError::Untrusted { .. } | TlsError::NoRoots(_));
        assert!(is_expected, "{error:?}");
        assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
    }
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn only_the_registered_key_is_let_in() {
    let rendezvous = rendezvous().await;
    let alice = Agent::walled(&rendezvous, 1).await;
    let eve = Identity::from_seed(&[2; 32]);
    let as_alice = compat_client::connect(&alice.server, alice.id, &eve).await.unwrap_err();
    assert!(as_alice.to_string().contains("signature verification failed"), "{as_alice}");
    let nobody = pilot_agent::wire::NodeId(99_999);
    let unknown = compat_client::connect(&alice.server, nobody, &eve).await.unwrap_err();
    assert!(unknown.to_string().contains("register first"), "{unknown}");
    assert_eq!(rendezvous.stats().attached_nodes, 0);
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn all_four_combinations_relay() {
    let rendezvous = rendezvous().await;
    let (a, b) = (Agent::walled(&rendezvous, 1).await, Agent::walled(&rendezvous, 2).await);
    let (mut socket_a, mut socket_b) = (a.connect().await.unwrap(), b.connect().await.unwrap());
    let udp = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    let mut agents = Vec::new();
    for (seed, udp) in [3, 4].into_iter().zip(&udp) {
        let endpoint = udp.local_addr().unwrap().to_string();
        let agent = Agent::join(&rendezvous, seed, &endpoint).await;
        udp.connect(rendezvous.local_addr()).await.unwrap();
        udp.send(&discover(&agent)).await.unwrap();
        udp.recv(&mut [0; 64]).await.unwrap();
        agents.push(agent);
    }
    let [c, d] = &agents[..] else { panic!() };
    let receive_udp = async |udp: &UdpSocket| {
        let mut buffer = vec![0; 2_000];
        let len = tokio::time::timeout(PATIENCE, udp.recv(&mut buffer)).await.unwrap().unwrap();
        buffer.truncate(len);
        buffer
    };
    send(&mut socket_a, relay(&a, &b, b"PILS web to web")).await;
    assert_eq!(receive(&mut socket_b).await, delivery(&a, b"PILS web to web"));
    send(&mut socket_a, relay(&a, c, b"PILS web to udp")).await;
    assert_eq!(receive_udp(&udp[0]).await, delivery(&a, b"PILS web to udp"));
    udp[0].send(&relay(c, &a, b"PILS udp to web")).await.unwrap();
    assert_eq!(receive(&mut socket_a).await, delivery(c, b"PILS udp to web"));
    udp[0].send(&relay(c, d, b"PILS udp to udp")).await.unwrap();
    assert_eq!(receive_udp(&udp[1]).await, delivery(c, b"PILS udp to udp"));
    assert_eq!(rendezvous.stats().attached_nodes, 2);
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_second_connection_replaces_the_first_and_loses_nothing_by_its_end() {
    let rendezvous = rendezvous().await;
    let (a, b) = (Agent::walled(&rendezvous, 1).await, Agent::walled(&rendezvous, 2).await);
    let mut sender = b.connect().await.unwrap();
    let mut first = a.connect().await.unwrap();
    let mut second = a.connect().await.unwrap();
    let (code, reason) = closed(&mut first).await;
    assert_eq!(code, 1008);
    assert!(reason.contains("replaced"), "{reason}");
    drop(first);
    for number in 0..20_u8 {
        send(&mut sender, relay(&b, &a, &[number])).await;
        assert_eq!(receive(&mut second).await, delivery(&b, &[number]));
    }
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_and_a_text_does_not() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let rendezvous = rendezvous().await;
    let a = Agent::walled(&rendezvous, 1).await;
    let mut socket = a.connect().await.unwrap();
    socket.send(Message::text("hello?")).await.unwrap();
    send(&mut socket, discover(&a)).await;
    assert_eq!(receive(&mut socket).await[0], 0x02);
    // It may be gone before it has taken all of it.
    let _ = socket.send(Message::Binary(vec![0; 70_000].into())).await;
    let ended = async {
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_close(), "{message:?}");
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let gone = async {
        while rendezvous.stats().attached_nodes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    rendezvous.shutdown().await;
}

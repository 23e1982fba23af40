//! The rendezvous over real sockets: registrations, restarts, rude clients, relaying.

mod agent;
mod cluster;
mod moving;
mod sharing;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use agent::Agent;
use ed25519_dalek::Signer;
use pilot_agent::net::registry_client::{RegistryClient, RegistryError, RegistryTimeouts};
use pilot_agent::server::{Rendezvous, RendezvousConfig, ServerError, StoreError};
use pilot_agent::wire::registry::framing::{BINARY_PREAMBLE, encode_with, split_frame};
use pilot_agent::wire::registry::{Base64, ErrorCode, Request, Response};
use pilot_agent::wire::registry_binary::{BinaryRequest, BinaryResponse};
use pilot_agent::wire::{BeaconMessage, NodeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn rendezvous() -> Rendezvous {
    Rendezvous::bind(RendezvousConfig::new(loopback())).await.unwrap()
}

async fn resolve(registry: &RegistryClient, hostname: &str) -> Result<NodeId, RegistryError> {
    let request = Request::ResolveHostname {
        hostname: hostname.into(),
        requester_id: NodeId(0),
        signature: None,
    };
    match registry.call(request).await? {
        Response::ResolveHostnameOk(found) => Ok(found.node_id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_nodes_find_each_other_and_are_relayed() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let (alice, bob) = (Agent::join(addr, 1).await, Agent::join(addr, 2).await);
    bob.set_hostname("bob").await.unwrap();
    assert_eq!(resolve(&alice.registry, "bob").await, Ok(bob.id));

    let frame = b"PILSsealed";
    alice.send(BeaconMessage::Relay { sender: alice.id, destination: bob.id, frame }).await;
    let delivery = BeaconMessage::RelayDeliver { sender: alice.id, destination: None, frame };
    assert_eq!(BeaconMessage::parse(&bob.receive().await), Ok(delivery));

    let punch = BeaconMessage::PunchRequest { requester: alice.id, target: bob.id, grant: None };
    alice.send(punch).await;
    for (agent, peer) in [(&alice, &bob), (&bob, &alice)] {
        let endpoint = peer.socket.local_addr().unwrap();
        let datagram = agent.receive().await;
        let expected = BeaconMessage::PunchCommand { endpoint };
        assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
    }
    assert_eq!(rendezvous.stats().online_nodes, 2);
    assert_eq!(rendezvous.stats().beacon.relayed, 1);
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_waiting_handshake_rings_through_the_beacon() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let (alice, bob) = (Agent::join(addr, 1).await, Agent::join(addr, 2).await);
    let request = Request::RequestHandshake {
        from_node_id: alice.id,
        to_node_id: bob.id,
        justification: "hello".into(),
        signature: None,
    };
    alice.ok(request).await;
    assert_eq!(bob.receive().await, [0x0a, 0x01]);
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn state_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = RendezvousConfig::new(loopback()).store(dir.path().join("rendezvous.redb"));
    let first = Rendezvous::bind(config.clone()).await.unwrap();
    let addr = first.local_addr();
    let alice = Agent::join(addr, 1).await;
    alice.set_hostname("alice").await.unwrap();
    let capabilities = vec!["aviation weather".to_owned()];
    alice.ok(Request::SetCapabilities { node_id: alice.id, capabilities, signature: None }).await;
    first.shutdown().await;

    // The same port: clients go on by themselves.
    let second = RendezvousConfig { listen: addr, ..config };
    let second = Rendezvous::bind(second).await.unwrap();
    alice.ok(Request::Heartbeat { node_id: alice.id, signature: None }).await;
    assert_eq!(resolve(&alice.registry, "alice").await, Ok(alice.id));
    let find = Request::Find { query: "weather".into(), limit: 5 };
    let Response::FindOk { agents } = alice.ok(find).await else { panic!() };
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].node_id, alice.id);
    second.shutdown().await;
}

#[tokio::test]
async fn an_identity_that_was_granted_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rendezvous.redb");
    let rendezvous =
        Rendezvous::bind(RendezvousConfig::new(loopback()).store(&path)).await.unwrap();
    let alice = Agent::join(rendezvous.local_addr(), 1).await;
    // As a crash would leave it: the file as it is while the server runs.
    let copy = dir.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    rendezvous.shutdown().await;
    let revived = Rendezvous::bind(RendezvousConfig::new(loopback()).store(copy)).await.unwrap();
    let client = RegistryClient::new(revived.local_addr().to_string(), RegistryTimeouts::default());
    let lookup = client.call(Request::Lookup { node_id: alice.id }).await.unwrap();
    assert!(matches!(lookup, Response::LookupOk(_)), "{lookup:?}");
    revived.shutdown().await;
}

#[tokio::test]
async fn what_is_in_the_way_of_starting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rendezvous.redb");
    let config = RendezvousConfig::new(loopback()).store(&path);
    let first = Rendezvous::bind(config.clone()).await.unwrap();

    let taken = RendezvousConfig::new(first.local_addr());
    let error = Rendezvous::bind(taken).await.unwrap_err();
    assert!(error.is_addr_in_use(), "{error}");
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");

    let error = Rendezvous::bind(config).await.unwrap_err();
    assert!(matches!(error, ServerError::Store(StoreError::InUse { .. })), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    first.shutdown().await;

    std::fs::write(&path, b"no database").unwrap();
    let error = Rendezvous::bind(RendezvousConfig::new(loopback()).store(&path)).await.unwrap_err();
    assert!(matches!(error, ServerError::Store(StoreError::Corrupted { .. })), "{error}");
}

#[tokio::test]
async fn shutting_down_frees_everything() {
    let dir = tempfile::tempdir().unwrap();
    let open_files = || count("/proc/self/fd");
    let mut listen = loopback();
    let mut before = None;
    for _ in 0..50 {
        let config = RendezvousConfig { listen, ..RendezvousConfig::new(listen) };
        let rendezvous = Rendezvous::bind(config.store(dir.path().join("db"))).await.unwrap();
        listen = rendezvous.local_addr();
        let mut idle = TcpStream::connect(listen).await.unwrap();
        idle.write_all(b"\0").await.unwrap();
        rendezvous.shutdown().await;
        assert_eq!(idle.read(&mut [0; 8]).await.map_err(|e| e.kind()).unwrap_or(0), 0);
        drop(idle);
        let now = open_files();
        // Other tests of this process come and go; a leak would grow by the round.
        assert!(now <= *before.get_or_insert(now) + 40, "{before:?} -> {now}");
    }
}

fn count(dir: impl AsRef<Path>) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

#[tokio::test]
async fn rude_clients_are_cut_off_and_others_do_not_notice() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let alice = Agent::join(addr, 1).await;
    for bytes in [
        b"\xff\xff\xff\xff".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"PILT\x02\0\0\0\0".to_vec(),
        0x0010_0001_u32.to_be_bytes().to_vec(),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // HTTP is told what to upgrade to first.
        let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        let end = end.expect("not cut off");
        assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    }
    // Well framed nonsense is answered, and the connection stays.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for body in ["", "{", "null", "[]", "{\"type\":7}", "{\"type\":\"no_such\"}", "\u{1}"] {
        let mut frame = Vec::new();
        encode_with(&mut frame, |out| {
            out.extend_from_slice(body.as_bytes());
            Ok(())
        })
        .unwrap();
        stream.write_all(&frame).await.unwrap();
        let response = Response::parse(&read_frame(&mut stream).await).unwrap();
        let Response::Error { error, .. } = response else { panic!("{body:?}: {response:?}") };
        assert!(error.starts_with("invalid request"), "{error}");
    }
    let udp = UdpSocket::bind(loopback()).await.unwrap();
    for datagram in [&b""[..], b"\x01", b"\x05\0\0\0\x01", b"PILSxxxx", &[7; 1400]] {
        udp.send_to(datagram, addr).await.unwrap();
    }
    alice.discover().await;
    alice.ok(Request::Heartbeat { node_id: alice.id, signature: None }).await;
    rendezvous.shutdown().await;
}

async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = Vec::new();
    loop {
        if let Some((body, _)) = split_frame(&buffer).unwrap() {
            return body.to_vec();
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut buffer)).await.expect("no answer");
        assert_ne!(read.unwrap(), 0, "hung up");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let rendezvous = rendezvous().await;
    let mut stream = TcpStream::connect(rendezvous.local_addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let requests = [
        Request::BeaconList {},
        Request::ListNetworks {},
        Request::Lookup { node_id: NodeId(1) },
        Request::CheckTrust { node_id: NodeId(1), peer_id: NodeId(2) },
    ];
    let mut bytes = Vec::new();
    for request in &requests {
        request.encode(&mut bytes).unwrap();
    }
    for piece in bytes.chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut buffer = Vec::new();
    for kind in ["beacon_list_ok", "list_networks_ok", "error", "check_trust_ok"] {
        while split_frame(&buffer).unwrap().is_none() {
            timeout(PATIENCE, stream.read_buf(&mut buffer)).await.expect("no answer").unwrap();
        }
        let (body, len) = split_frame(&buffer).unwrap().unwrap();
        assert_eq!(Response::parse(body).unwrap().kind(), kind);
        buffer.drain(..len);
    }
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn the_binary_protocol_is_served_on_the_same_port() {
    let rendezvous = rendezvous().await;
    let alice = Agent::join(rendezvous.local_addr(), 1).await;
    let mut stream = TcpStream::connect(rendezvous.local_addr()).await.unwrap();
    stream.write_all(&BINARY_PREAMBLE).await.unwrap();
    let signature = Base64(alice.key.sign(format!("heartbeat:{}", alice.id).as_bytes()).to_bytes());
    let requests = [
        BinaryRequest::Heartbeat { node: alice.id, signature },
        BinaryRequest::Lookup { node: alice.id },
        BinaryRequest::Lookup { node: NodeId(9) },
        BinaryRequest::Json(br#"{"type":"beacon_list"}"#),
    ];
    let mut responses = Vec::new();
    for request in requests {
        let mut frame = Vec::new();
        encode_with(&mut frame, |out| {
            request.encode(out);
            Ok(())
        })
        .unwrap();
        stream.write_all(&frame).await.unwrap();
        responses.push(BinaryResponse::parse(&read_frame(&mut stream).await).unwrap());
    }
    assert!(matches!(&responses[0], BinaryResponse::Heartbeat { .. }), "{responses:?}");
    let BinaryResponse::Lookup(lookup) = &responses[1] else { panic!("{responses:?}") };
    assert_eq!(lookup.real_addr, alice.socket.local_addr().unwrap().to_string());
    assert_eq!(responses[2], BinaryResponse::Error("node 0:0000.0000.0009: not found".into()));
    let json = br#"{"type":"beacon_list_ok","beacons":[]}"#.to_vec();
    assert_eq!(responses[3], BinaryResponse::Json(json));
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let config = RendezvousConfig { max_connections: 3, ..RendezvousConfig::new(loopback()) };
    let rendezvous = Rendezvous::bind(config).await.unwrap();
    let addr = rendezvous.local_addr();
    let mut held = Vec::new();
    for _ in 0..3 {
        let client = RegistryClient::new(addr.to_string(), RegistryTimeouts::default());
        client.call(Request::BeaconList {}).await.unwrap();
        held.push(client);
    }
    let one_more = RegistryClient::new(addr.to_string(), RegistryTimeouts::default());
    let error = one_more.call(Request::BeaconList {}).await.unwrap_err();
    assert!(matches!(error, RegistryError::Disconnected { .. }), "{error}");
    held.pop();
    // The server notices the end of the third connection by itself.
    timeout(PATIENCE, async { while one_more.call(Request::BeaconList {}).await.is_err() {} })
        .await
        .expect("the place of a closed connection is free again");
    rendezvous.shutdown().await;
}

#[tokio::test]
async fn a_taken_hostname_is_refused_with_its_code() {
    let rendezvous = rendezvous().await;
    let addr = rendezvous.local_addr();
    let (alice, bob) = (Agent::join(addr, 1).await, Agent::join(addr, 2).await);
    alice.set_hostname("worker").await.unwrap();
    let error = bob.set_hostname("worker").await.unwrap_err();
    let RegistryError::Refused { code, text, .. } = error else { panic!("{error}") };
    assert_eq!(code, ErrorCode::HostnameTaken);
    assert!(text.contains("already taken by 0:0000."), "{text}");
    rendezvous.shutdown().await;
}

//! Whole nodes over real sockets on loopback, with an in-process rendezvous.

use std::future::poll_fn;
use std::time::Duration;

use pilot_agent::node::{Node, NodeConfig, NodeError, NodeStream, PathKind, Payload, PeerRef};
use pilot_agent::server::{Rendezvous, RendezvousConfig};

const LIMIT: Duration = Duration::from_secs(10);

/// A rendezvous and a directory for identities; both go with it.
struct Network {
    rendezvous: Rendezvous,
    home: tempfile::TempDir,
}

impl Network {
    async fn new() -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap();
        Self { rendezvous, home: tempfile::tempdir().unwrap() }
    }

    fn config(&self, hostname: &str) -> NodeConfig {
        NodeConfig {
            hostname: Some(hostname.to_owned()),
            rendezvous: Some(self.rendezvous.local_addr().to_string()),
            home: Some(self.home.path().to_owned()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..NodeConfig::default()
        }
    }

    async fn node(&self, hostname: &str) -> Node {
        Node::start(self.config(hostname)).await.unwrap()
    }
}

fn peer(name: &str) -> PeerRef {
    name.parse().unwrap()
}

fn text(text: &str) -> Payload {
    Payload { data: text.to_owned().into(), ..Payload::default() }
}

async fn serve_upper_case(node: Node) {
    node.set_serving(true);
    while let Ok(request) = poll_fn(|cx| node.poll_request(cx)).await {
        let answer = request.payload.data.to_ascii_uppercase();
        let answer = Payload { data: answer.into(), ..Payload::default() };
        node.reply(request.ticket, Ok(answer)).unwrap();
    }
}

async fn read_to_end(stream: &NodeStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match stream.try_read(1 << 16).unwrap() {
            Some(chunk) if chunk.is_empty() => return all,
            Some(chunk) => all.extend_from_slice(&chunk),
            None => poll_fn(|cx| stream.poll_readable(cx)).await.unwrap(),
        }
    }
}

async fn write_all(stream: &NodeStream, mut data: &[u8]) {
    while !data.is_empty() {
        match stream.try_write(data).unwrap() {
            0 => poll_fn(|cx| stream.poll_writable(cx)).await.unwrap(),
            written => data = &data[written..],
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let serving = tokio::spawn(serve_upper_case(b.clone()));
    for word in ["one", "two", "three"] {
        let (from, reply) = a.request(&peer("b"), text(word), LIMIT).await.unwrap();
        assert_eq!((from, &reply.data[..]), (b.address(), word.to_uppercase().as_bytes()));
    }
    let large = vec![b'x'; 3 << 20];
    let payload = Payload { data: large.into(), ..Payload::default() };
    let (_, reply) = a.request(&peer("b"), payload, LIMIT).await.unwrap();
    assert!(reply.data.len() == 3 << 20 && reply.data.iter().all(|byte| *byte == b'X'));
    a.close().await;
    b.close().await;
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_once_and_by_any_name_of_the_peer() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    for to in [peer("b"), PeerRef::Node(b.address().node), peer(&b.address().to_string())] {
        a.send(&to, text(&to.to_string()), LIMIT).await.unwrap();
        let message = poll_fn(|cx| b.poll_message(cx)).await.unwrap();
        assert_eq!(message.payload.data, to.to_string());
        assert_eq!(message.sender, a.address());
    }
    assert!(b.try_message().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_carries_both_directions_and_half_closes() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let listener = b.listen(5_000).unwrap();
    let data: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        let received = read_to_end(&stream).await;
        write_all(&stream, &received).await;
        stream.close();
        poll_fn(|cx| stream.poll_drained(cx)).await.unwrap();
    });
    let stream = a.open_stream(&peer("b"), 5_000, true, LIMIT).await.unwrap();
    write_all(&stream, &data).await;
    stream.finish().unwrap();
    assert!(read_to_end(&stream).await == data);
    server.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_ping_and_datagrams_work() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let echo = a.open_stream(&peer("b"), 7, true, LIMIT).await.unwrap();
    write_all(&echo, b"hello").await;
    echo.finish().unwrap();
    assert_eq!(read_to_end(&echo).await, b"hello");

    let pong = a.ping(&peer("b"), LIMIT).await.unwrap();
    assert_eq!((pong.address, pong.path), (b.address(), PathKind::Direct));
    assert_eq!(pong.endpoint, b.local_addr());

    let port = b.bind_datagrams(4_242).unwrap();
    a.send_datagram(&peer("b"), 0, 4_242, b"datagram").await.unwrap();
    let datagram = poll_fn(|cx| port.poll_recv(cx)).await.unwrap();
    assert_eq!((datagram.sender, &datagram.data[..]), (a.address(), &b"datagram"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_is_wrong() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let error = a.open_stream(&peer("b"), 5_001, true, LIMIT).await.unwrap_err();
    assert_eq!(error, NodeError::Refused { peer: b.address().to_string(), port: 5_001 });
    let error = a.request(&peer("nobody"), text("?"), LIMIT).await.unwrap_err();
    assert!(matches!(error, NodeError::PeerNotFound { .. }), "{error}");
    let error = a.request(&peer("b"), text("?"), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("no request handler"), "{error}");
    let error = Node::start(network.config("a")).await.unwrap_err();
    assert!(matches!(error, NodeError::IdentityInUse(_)), "{error}");
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = NodeConfig { home: Some(elsewhere.path().to_owned()), ..network.config("a") };
    let error = Node::start(taken).await.unwrap_err();
    assert!(matches!(error, NodeError::HostnameTaken(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_stays_and_a_conversation_survives_a_restart() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let address = b.address();
    a.send(&peer("b"), text("one"), LIMIT).await.unwrap();
    b.close().await;
    drop(b);
    let b = network.node("b").await;
    assert_eq!(b.address(), address);
    a.send(&peer("b"), text("two"), LIMIT).await.unwrap();
    assert_eq!(poll_fn(|cx| b.poll_message(cx)).await.unwrap().payload.data, "two");
    b.send(&peer("a"), text("three"), LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_what_waits() {
    let network = Network::new().await;
    let (a, _b) = (network.node("a").await, network.node("b").await);
    let listener = a.listen(5_002).unwrap();
    let stream = a.open_stream(&peer("b"), 7, true, LIMIT).await.unwrap();
    let waits = async {
        tokio::join!(
            poll_fn(|cx| a.poll_message(cx)),
            listener.accept(),
            poll_fn(|cx| stream.poll_readable(cx)),
        )
    };
    let ((message, accepted, readable), ()) = tokio::join!(waits, a.close());
    assert_eq!(message.unwrap_err(), NodeError::Closed);
    assert_eq!(accepted.unwrap_err(), NodeError::Closed);
    assert_eq!(readable.unwrap_err(), NodeError::Closed);
    assert_eq!(a.try_message().unwrap_err(), NodeError::Closed);
}

/// A registry as the Go project's older ones are: it counts node ids up from one, takes no
/// hostname with the registration, and knows none of our additions.
async fn foreign_registry(first_id: u32) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(len) = socket.read_u32().await {
                    let mut body = vec![0; len as usize];
                    socket.read_exact(&mut body).await.unwrap();
                    let request: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let kind = request["type"].as_str().unwrap();
                    let reply = match kind {
                        "register" => serde_json::json!({
                            "type": "register_ok", "node_id": first_id, "network_id": 0,
                            "address": "", "public_key": request["public_key"],
                        }),
                        "set_hostname" | "set_visibility" | "heartbeat" | "deregister" => {
                            serde_json::json!({"type": format!("{kind}_ok")})
                        }
                        _ => serde_json::json!({"type": "error", "error": "request failed"}),
                    };
                    let reply = reply.to_string();
                    socket.write_u32(u32::try_from(reply.len()).unwrap()).await.unwrap();
                    socket.write_all(reply.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (addr, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_the_id_that_a_foreign_registry_gives() {
    let network = Network::new().await;
    let (registry, serving) = foreign_registry(5).await;
    let config = NodeConfig {
        rendezvous: Some(registry.to_string()),
        capabilities: vec!["anything".to_owned()],
        ..network.config("a")
    };
    let a = Node::start(config).await.unwrap();
    assert_eq!(a.address().to_string(), "0:0000.0000.0005");
    let error = a.send(&peer("nobody"), text("?"), LIMIT).await.unwrap_err();
    assert!(matches!(error, NodeError::PeerNotFound { .. }), "{error}");
    a.close().await;
    serving.abort();
}

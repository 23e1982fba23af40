//! Trust: private nodes, direct handshakes and those by way of the registry.

use std::time::Duration;

use pilot_agent::crypto::StoredIdentity;
use pilot_agent::node::{Node, NodeConfig, NodeError, Payload, TrustAnswer};
use pilot_agent::wire::handshake::{HandshakeKind, HandshakeMessage, sign_string};

use super::network::{DATA, HANDSHAKE, LIMIT, Network, Wire, frame, message, peer};

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within limit: {what}"));
}

async fn says(node: &Node, to: &str, text: &'static str) -> Result<(), NodeError> {
    let payload = Payload { data: text.into(), ..Payload::default() };
    node.send(&peer(to), payload, LIMIT).await
}

fn requires_trust(result: Result<(), NodeError>) -> bool {
    matches!(result, Err(NodeError::TrustRequired { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_node_is_reached_after_it_approved() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.private("b").await);
    assert!(requires_trust(says(&a, "b", "hello").await));
    let opened = a.open_stream(&peer("b"), 7, true, LIMIT).await.map(|_| ());
    assert!(requires_trust(opened));

    let asking = {
        let a = a.clone();
        tokio::spawn(async move { a.request_trust(&peer("b"), "to work together", LIMIT).await })
    };
    until("pending", || !b.pending_trust().is_empty()).await;
    let pending = b.pending_trust().remove(0);
    assert_eq!((pending.address, pending.public_key), (a.address(), a.public_key()));
    assert_eq!(pending.justification, "to work together");
    b.approve(&peer("a")).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), TrustAnswer::Granted);
    assert!(b.pending_trust().is_empty());
    assert_eq!(b.trusted()[0].address, a.address());
    assert!(b.trusted()[0].mutual && a.trusted()[0].mutual);
    says(&a, "b", "hello").await.unwrap();
    assert_eq!(message(&b).await.payload.data, "hello");

    b.revoke(&peer("a")).await.unwrap();
    assert!(b.trusted().is_empty());
    until("revoked", || a.trusted().is_empty()).await;
    // What is under way at that moment may still end in silence.
    let short = Duration::from_millis(500);
    let greeting = Payload { data: "hello again".into(), ..Payload::default() };
    let refused =
        async { while !requires_trust(a.send(&peer("b"), greeting.clone(), short).await) {} };
    tokio::time::timeout(LIMIT, refused).await.expect("refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_private_nodes_agree_by_the_registry() {
    let network = Network::new().await;
    let (a, b) = (network.private("a").await, network.private("b").await);
    let waiting = a.request_trust(&peer("b"), "", Duration::from_millis(50)).await.unwrap();
    assert_eq!(waiting, TrustAnswer::Undecided);
    until("pending", || !b.pending_trust().is_empty()).await;
    // B asks A in turn: that is an answer, too.
    let answer = b.request_trust(&peer("a"), "", LIMIT).await.unwrap();
    assert_eq!(answer, TrustAnswer::Granted);
    until("mutual", || !a.trusted().is_empty()).await;
    says(&a, "b", "one").await.unwrap();
    says(&b, "a", "two").await.unwrap();
    assert_eq!(message(&b).await.payload.data, "one");
    assert_eq!(message(&a).await.payload.data, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_arrives_with_its_reason() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let asking = {
        let a = a.clone();
        tokio::spawn(async move { a.request_trust(&peer("b"), "", LIMIT).await })
    };
    until("pending", || !b.pending_trust().is_empty()).await;
    b.reject(&peer("a"), "not today").await.unwrap();
    let refused = TrustAnswer::Refused("not today".to_owned());
    assert_eq!(asking.await.unwrap().unwrap(), refused);
    assert!(a.trusted().is_empty() && b.trusted().is_empty() && b.pending_trust().is_empty());
    assert!(b.reject(&peer("a"), "").await.is_err(), "nothing to reject");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_outlives_both_nodes_and_the_word_of_the_registry() {
    let network = Network::new().await;
    let a = network.node("a").await;
    let config = NodeConfig { trust_auto_approve: true, public: false, ..network.config("b") };
    let b = Node::start(config.clone()).await.unwrap();
    assert_eq!(a.request_trust(&peer("b"), "", LIMIT).await.unwrap(), TrustAnswer::Granted);
    says(&a, "b", "one").await.unwrap();
    b.close().await;
    a.close().await;
    drop((a, b));
    let (a, b) = (network.node("a").await, Node::start(config).await.unwrap());
    assert_eq!((a.trusted().len(), b.trusted().len()), (1, 1));
    says(&a, "b", "two").await.unwrap();
    assert_eq!(message(&b).await.payload.data, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_node_calls_a_public_one_and_gets_answers() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.private("b").await);
    says(&b, "a", "question").await.unwrap();
    assert_eq!(message(&a).await.payload.data, "question");
    says(&a, "b", "answer").await.unwrap();
    assert_eq!(message(&b).await.payload.data, "answer");
    let mut wire = Wire::open(&a, "b", DATA).await;
    assert_eq!(wire.ask(&frame(1, b"x")).await, "ACK TEXT 1 bytes");
    // The way back is for answers: echo is not open.
    let echo = a.open_stream(&peer("b"), 7, true, Duration::from_secs(1)).await.map(|_| ());
    assert!(requires_trust(echo));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_handshakes_have_no_effect_and_hurt_nobody() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    // A's identity, as A's own process could use it to write what it likes.
    let home = tempfile::tempdir().unwrap();
    let identities = home.path().join("identities");
    std::fs::create_dir(&identities).unwrap();
    std::fs::copy(network.home().join("identities/a.json"), identities.join("a.json")).unwrap();
    let mut rng: rand::rngs::StdRng = rand::SeedableRng::from_seed([0; 32]);
    let stored = StoredIdentity::load_or_create(&identities, "a", &mut rng).unwrap();
    let identity = stored.identity();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let sign = |to| Some(identity.sign(sign_string(a.address().node, to).as_bytes()));
    let good = HandshakeMessage {
        kind: HandshakeKind::Request,
        node_id: a.address().node,
        public_key: Some(identity.public_key()),
        justification: "real".to_owned(),
        signature: sign(b.address().node),
        reason: String::new(),
        timestamp: i64::try_from(now.as_secs()).unwrap(),
    };
    let other = network.node("c").await;
    let mut forged: Vec<Vec<u8>> = [
        HandshakeMessage { node_id: other.address().node, ..good.clone() },
        HandshakeMessage { signature: None, ..good.clone() },
        HandshakeMessage { signature: sign(other.address().node), ..good.clone() },
        HandshakeMessage { public_key: Some(other.public_key()), ..good.clone() },
        HandshakeMessage { timestamp: good.timestamp - 3_600, ..good.clone() },
        HandshakeMessage { timestamp: good.timestamp + 3_600, ..good.clone() },
        HandshakeMessage { kind: HandshakeKind::Accept, ..good.clone() },
        HandshakeMessage { kind: HandshakeKind::Reject, ..good.clone() },
    ]
    .iter()
    .map(|message| message.encode().unwrap())
    .collect();
    forged.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    forged.push(b"{\"type\":\"handshake_request\"}".to_vec());
    forged.push([b"{\"justification\":\"".to_vec(), vec![b'x'; 8_000]].concat());
    forged.push([b'['; 4_096].to_vec());
    for bytes in forged {
        let mut wire = Wire::open(&a, "b", HANDSHAKE).await;
        wire.write(&bytes).await;
        assert_eq!(wire.receive().await, None, "no answer on this connection");
    }
    assert!(b.pending_trust().is_empty() && b.trusted().is_empty());

    // The real one, in pieces of one byte: peers of ours collect it.
    let mut wire = Wire::open(&a, "b", HANDSHAKE).await;
    wire.write_in_pieces(&good.encode().unwrap(), 40).await;
    assert_eq!(wire.receive().await, None);
    until("pending", || b.pending_trust().len() == 1).await;
    assert_eq!(b.pending_trust()[0].justification, "real");
    b.approve(&peer("a")).await.unwrap();
    assert!(a.trusted().is_empty(), "A's node never asked, so it takes no accept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_node_ends_its_wait_for_an_answer() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let asking = {
        let a = a.clone();
        tokio::spawn(async move { a.request_trust(&peer("b"), "", 60 * LIMIT).await })
    };
    until("pending", || !b.pending_trust().is_empty()).await;
    a.close().await;
    let ended = tokio::time::timeout(LIMIT, asking).await.expect("within the limit").unwrap();
    assert_eq!(ended, Err(NodeError::Closed));
}

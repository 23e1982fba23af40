use super::*;

fn report(agent: &Agent, peer: &Agent) -> Request {
    Request::ReportTrust { node_id: agent.id, peer_id: peer.id, signature: None }
}

fn request_handshake(from: &Agent, to: &Agent) -> Request {
    Request::RequestHandshake {
        from_node_id: from.id,
        to_node_id: to.id,
        justification: "we work together".into(),
        signature: None,
    }
}

fn respond(agent: &Agent, peer: &Agent, accept: bool) -> Request {
    Request::RespondHandshake { node_id: agent.id, peer_id: peer.id, accept, signature: None }
}

fn poll(directory: &mut Directory, agent: &Agent) -> (Vec<NodeId>, Vec<(NodeId, bool)>) {
    let request = Request::PollHandshakes { node_id: agent.id, signature: None };
    let response = agent.ok(directory, NOW, request);
    let Response::PollHandshakesOk { requests, responses } = response else { panic!() };
    let requests = requests.into_iter().map(|request| request.from_node_id).collect();
    let responses = responses.into_iter().map(|reply| (reply.from_node_id, reply.accept)).collect();
    (requests, responses)
}

/// A private node and a stranger.
fn pair(directory: &mut Directory) -> (Agent, Agent) {
    let private = Agent::named(directory, 1, "vault");
    private.ok(directory, NOW, private.set_public(false));
    (private, Agent::registered(directory, 2))
}

fn is_private(directory: &mut Directory, asker: &Agent, target: &Agent) -> bool {
    match asker.ask(directory, NOW, asker.resolve(target)).response {
        Response::Error { code, .. } => {
            assert_eq!(code, ErrorCode::Private);
            true
        }
        _ => false,
    }
}

#[test]
fn nothing_tells_a_stranger_the_endpoint_of_a_private_node() {
    let mut directory = directory();
    let (private, stranger) = pair(&mut directory);
    assert!(is_private(&mut directory, &stranger, &private));
    assert_eq!(looked_up(&mut directory, private.id).real_addr, "");
    let by_name = found(by_hostname(&mut directory, NOW, "vault"));
    assert_eq!(by_name.node_id, private.id, "its id is no secret: a handshake needs it");
    assert_eq!((by_name.real_addr.as_str(), by_name.public_key), ("", None));
    let punch = Request::Punch {
        requester_id: stranger.id,
        node_a: stranger.id,
        node_b: private.id,
        signature: None,
    };
    assert_eq!(stranger.error(&mut directory, NOW, punch).0, ErrorCode::Private);
    private.ok(&mut directory, NOW, private.set_capabilities(&["secrets"]));
    let find = Request::Find { query: "secrets".into(), limit: 10 };
    assert_eq!(stranger.ok(&mut directory, NOW, find), Response::FindOk { agents: vec![] });
    // But the node itself may ask.
    private.ok(&mut directory, NOW, private.resolve(&private));
}

#[test]
fn the_strangers_own_word_is_not_enough_the_private_nodes_is() {
    let mut directory = directory();
    let (private, stranger) = pair(&mut directory);
    stranger.ok(&mut directory, NOW, report(&stranger, &private));
    assert!(is_private(&mut directory, &stranger, &private));
    private.ok(&mut directory, NOW, report(&private, &stranger));
    assert!(!is_private(&mut directory, &stranger, &private));

    let signed = Request::ResolveHostname {
        hostname: "vault".into(),
        requester_id: stranger.id,
        signature: None,
    };
    let by_name = found(stranger.ok(&mut directory, NOW, signed));
    assert_eq!(by_name.real_addr, "203.0.113.1:4000");

    let revoke =
        Request::RevokeTrust { node_id: stranger.id, peer_id: private.id, signature: None };
    stranger.ok(&mut directory, NOW, revoke);
    assert!(is_private(&mut directory, &stranger, &private), "either side ends it for both");
}

#[test]
fn a_public_node_is_resolved_by_name_in_one_reply() {
    let mut directory = directory();
    let agent = Agent::named(&mut directory, 1, "worker");
    let found = found(by_hostname(&mut directory, NOW, "worker"));
    assert_eq!(found.real_addr, "203.0.113.1:4000");
    assert_eq!(found.public_key, Some(Base64(agent.key.verifying_key().to_bytes())));
}

#[test]
fn a_handshake_is_relayed_once_and_accepting_it_is_the_word_of_both() {
    let mut directory = directory();
    let (private, stranger) = pair(&mut directory);
    let outcome = stranger.ask(&mut directory, NOW, request_handshake(&stranger, &private));
    assert!(outcome.effects.contains(&Effect::Notify(private.id)), "the beacon rings");
    let (code, _) = stranger.error(&mut directory, NOW, request_handshake(&stranger, &private));
    assert_eq!(code, ErrorCode::Already);

    assert_eq!(poll(&mut directory, &private), (vec![stranger.id], vec![]));
    assert_eq!(poll(&mut directory, &private), (vec![], vec![]), "reading empties it");
    private.ok(&mut directory, NOW, respond(&private, &stranger, true));
    assert_eq!(poll(&mut directory, &stranger), (vec![], vec![(private.id, true)]));
    assert!(!is_private(&mut directory, &stranger, &private));
    let check = Request::CheckTrust { node_id: private.id, peer_id: stranger.id };
    let trusted = Response::CheckTrustOk { trusted: true };
    assert_eq!(stranger.ok(&mut directory, NOW, check), trusted);
}

#[test]
fn nobody_can_answer_what_nobody_asked() {
    let mut directory = directory();
    let (private, stranger) = pair(&mut directory);
    let (code, _) = stranger.error(&mut directory, NOW, respond(&stranger, &private, true));
    assert_eq!(code, ErrorCode::NotFound);
    stranger.ok(&mut directory, NOW, request_handshake(&stranger, &private));
    private.ok(&mut directory, NOW, respond(&private, &stranger, false));
    assert!(is_private(&mut directory, &stranger, &private));
    assert_eq!(poll(&mut directory, &stranger), (vec![], vec![(private.id, false)]));
    let (code, _) = private.error(&mut directory, NOW, respond(&private, &stranger, true));
    assert_eq!(code, ErrorCode::NotFound, "the request was answered");
}

#[test]
fn trust_in_a_forgotten_node_does_not_pass_to_the_next_holder_of_its_id() {
    let mut directory = directory();
    let (private, friend) = pair(&mut directory);
    private.ok(&mut directory, NOW, report(&private, &friend));
    let far = NOW + FORGET_AFTER_SECS + OFFLINE_AFTER_SECS + 1;
    private.ok(&mut directory, far, private.heartbeat());
    let effects = directory.handle_timeout(far);
    assert!(effects.contains(&Effect::RemoveNode(friend.id)), "{effects:?}");
    let gone = Effect::RemoveTrust { node: private.id, peer: friend.id };
    assert!(effects.contains(&gone), "{effects:?}");
}

use super::*;
use crate::crypto::node_id;

#[test]
fn a_key_gets_the_id_that_derives_from_it_and_keeps_it() {
    let mut directory = directory();
    let mut agent = Agent::new(1);
    let outcome = agent.ask(&mut directory, NOW, Request::Register(agent.registration()));
    assert!(outcome.is_durable, "an identity is granted");
    agent.register(&mut directory, NOW);
    assert_eq!(node_id::belongs(agent.id, &agent.key.verifying_key().to_bytes()), Some(0));

    let again = agent.ask(&mut directory, NOW + 1, Request::Register(agent.registration()));
    assert!(!again.is_durable && again.effects.is_empty(), "{:?}", again.effects);
    let id = agent.id;
    let mut empty = super::directory();
    agent.register(&mut empty, NOW);
    assert_eq!(agent.id, id, "an emptied registry gives the same id");
}

#[test]
fn a_key_whose_id_is_taken_gets_the_next_one() {
    let mut directory = directory();
    let mut agent = Agent::registered(&mut directory, 1);
    // Somebody else holds the first id of agent 2: agent 1, restored with it.
    let second = Agent::new(2);
    let key = second.key.verifying_key().to_bytes();
    let first_id = node_id::derive(&key, 0).unwrap();
    let mut record = directory.nodes[&agent.id].record.clone();
    record.id = first_id;
    directory.apply(NOW, Effect::PutNode(Box::new(record)));
    agent.id = first_id;

    let mut second = second;
    second.register(&mut directory, NOW);
    assert_eq!(Some(second.id), node_id::derive(&key, 1));
}

#[test]
fn the_endpoint_is_the_source_address_with_the_claimed_port() {
    let mut directory = directory();
    let agent = Agent::registered(&mut directory, 7);
    assert_eq!(looked_up(&mut directory, agent.id).real_addr, "203.0.113.7:4000");
    let mut register = agent.registration();
    register.listen_addr = ":4100".into();
    let response = agent.ok(&mut directory, NOW, Request::Register(register));
    let Response::RegisterOk { observed_addr, .. } = response else { panic!() };
    assert_eq!(observed_addr, "203.0.113.7:4100");
    for listen_addr in ["", "203.0.113.7", "203.0.113.7:0", "x:99999"] {
        let mut register = agent.registration();
        register.listen_addr = listen_addr.into();
        let (code, _) = agent.error(&mut directory, NOW, Request::Register(register));
        assert_eq!(code, ErrorCode::Invalid, "{listen_addr:?}");
    }
}

#[test]
fn a_node_on_the_registrys_host_is_told_by_its_claimed_address_to_others() {
    let mut directory = directory();
    let mut agent = Agent::new(1);
    agent.from = "127.0.0.1:5".parse().unwrap();
    let mut register = agent.registration();
    register.listen_addr = "192.0.2.8:4000".into();
    let response = agent.ok(&mut directory, NOW, Request::Register(register));
    let Response::RegisterOk { node_id, .. } = response else { panic!() };
    agent.id = node_id;
    agent.ok(&mut directory, NOW, agent.set_public(true));
    assert_eq!(looked_up(&mut directory, agent.id).real_addr, "192.0.2.8:4000");
    let own = resolved(agent.ok(&mut directory, NOW, agent.resolve(&agent)));
    assert_eq!(own.real_addr, "127.0.0.1:4000");
}

#[test]
fn nothing_happens_without_the_right_signature() {
    let mut directory = directory();
    let agent = Agent::named(&mut directory, 1, "one");
    let stranger = Agent::new(2);
    let requests = [
        Request::Register(agent.registration()),
        agent.heartbeat(),
        agent.set_hostname("two"),
        agent.set_public(false),
        agent.resolve(&agent),
        Request::SetTags { node_id: agent.id, tags: vec![], signature: None },
        agent.set_capabilities(&["x"]),
        Request::Deregister { node_id: agent.id, signature: None },
        Request::PollHandshakes { node_id: agent.id, signature: None },
        Request::ReportTrust { node_id: agent.id, peer_id: NodeId(9), signature: None },
        Request::RotateKey { node_id: agent.id, new_public_key: Base64([1; 32]), signature: None },
    ];
    for request in requests {
        let unsigned = directory.handle(NOW, agent.from, request.clone());
        let Response::Error { code, error } = unsigned.response else { panic!("{request:?}") };
        assert_eq!(code, ErrorCode::Signature, "{request:?}");
        assert!(error.starts_with("signature required"), "{error}");
        let (code, error) = stranger.error(&mut directory, NOW, request.clone());
        assert_eq!(code, ErrorCode::Signature, "{request:?}");
        assert_eq!(error, "signature verification failed");
        assert!(unsigned.effects.is_empty());
    }
    let keyless = Request::Register(Register { public_key: None, ..agent.registration() });
    assert_eq!(agent.error(&mut directory, NOW, keyless).0, ErrorCode::Invalid);
    assert!(looked_up(&mut directory, agent.id).public);
}

#[test]
fn an_unknown_node_is_told_to_register_in_words_that_a_go_daemon_knows() {
    let mut directory = directory();
    let mut agent = Agent::new(1);
    agent.id = NodeId(77_777);
    let (code, error) = agent.error(&mut directory, NOW, agent.heartbeat());
    assert_eq!(code, ErrorCode::NotRegistered);
    assert!(error.contains("node not found"), "{error}");
    // A peer that is unknown must not make the asker register anew.
    agent.register(&mut directory, NOW);
    let mut peer = Agent::new(2);
    peer.id = NodeId(88_888);
    let (code, error) = agent.error(&mut directory, NOW, agent.resolve(&peer));
    assert_eq!(code, ErrorCode::NotFound);
    assert!(!error.contains("node not found"), "{error}");
}

#[test]
fn a_hostname_is_unique_and_the_error_says_who_has_it() {
    let mut directory = directory();
    let first = Agent::named(&mut directory, 1, "worker");
    let second = Agent::registered(&mut directory, 2);
    let (code, error) = second.error(&mut directory, NOW, second.set_hostname("worker"));
    assert_eq!(code, ErrorCode::HostnameTaken);
    assert!(error.contains(&Addr::global(first.id).to_string()), "{error}");

    let mut register = second.registration();
    register.hostname = "worker".into();
    let response = second.ok(&mut directory, NOW, Request::Register(register));
    let Response::RegisterOk { hostname, hostname_error, .. } = response else { panic!() };
    assert_eq!(hostname, "");
    assert!(hostname_error.contains("already taken"), "{hostname_error}");

    first.ok(&mut directory, NOW, first.set_hostname(""));
    second.ok(&mut directory, NOW, second.set_hostname("worker"));
    assert_eq!(found(by_hostname(&mut directory, NOW, "worker")).node_id, second.id);
}

#[test]
fn the_hostname_of_a_node_long_offline_can_be_claimed() {
    let mut directory = directory();
    let first = Agent::named(&mut directory, 1, "worker");
    let second = Agent::registered(&mut directory, 2);
    let offline = NOW + OFFLINE_AFTER_SECS;
    let claim = second.set_hostname("worker");
    second.ok(&mut directory, offline, second.heartbeat());
    for (now, is_claimed) in
        [(offline, false), (offline + HOSTNAME_GRACE_SECS, false), (offline + 61, true)]
    {
        let outcome = second.ask(&mut directory, now, claim.clone());
        let is_ok = matches!(outcome.response, Response::SetHostnameOk { .. });
        assert_eq!(is_ok, is_claimed, "{now}: {:?}", outcome.response);
    }
    // The first comes back: it is itself, but without the name.
    first.ok(&mut directory, offline + 70, first.heartbeat());
    assert_eq!(looked_up(&mut directory, first.id).hostname, "");
    let (code, _) = first.error(&mut directory, offline + 70, first.set_hostname("worker"));
    assert_eq!(code, ErrorCode::HostnameTaken);
}

#[test]
fn hostnames_follow_the_rule() {
    let mut directory = directory();
    let agent = Agent::registered(&mut directory, 1);
    let long = "a".repeat(63);
    for good in ["a", "0", "a-b", "worker-7", &long] {
        agent.ok(&mut directory, NOW, agent.set_hostname(good));
    }
    let too_long = "a".repeat(64);
    let bad = ["-a", "a-", "A", "a.b", "a_b", "ä", " ", "localhost", "backbone", "broadcast"];
    for bad in bad.into_iter().chain([too_long.as_str()]) {
        let (code, error) = agent.error(&mut directory, NOW, agent.set_hostname(bad));
        assert_eq!((code, error.starts_with("invalid hostname")), (ErrorCode::Invalid, true));
    }
}

#[test]
fn leaving_frees_the_name_and_keeps_the_id() {
    let mut directory = directory();
    let mut first = Agent::named(&mut directory, 1, "worker");
    let id = first.id;
    let leave = Request::Deregister { node_id: id, signature: None };
    first.ok(&mut directory, NOW, leave.clone());
    first.ok(&mut directory, NOW, leave);
    assert_eq!(first.error(&mut directory, NOW, first.heartbeat()).0, ErrorCode::NotRegistered);
    Agent::named(&mut directory, 2, "worker");
    first.register(&mut directory, NOW + 1);
    assert_eq!(first.id, id);
    assert!(!looked_up(&mut directory, id).public, "what it was is gone");
}

#[test]
fn a_rotated_key_takes_the_id_along() {
    let mut directory = directory();
    let mut agent = Agent::named(&mut directory, 1, "worker");
    let old = agent.key.clone();
    let new_public_key = Base64(SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes());
    let rotate = Request::RotateKey { node_id: agent.id, new_public_key, signature: None };
    assert!(agent.ask(&mut directory, NOW, rotate).is_durable);
    agent.key = SigningKey::from_bytes(&[9; 32]);
    agent.ok(&mut directory, NOW, agent.heartbeat());
    let id = agent.id;
    agent.register(&mut directory, NOW);
    assert_eq!(agent.id, id);
    agent.key = old;
    assert_eq!(agent.error(&mut directory, NOW, agent.heartbeat()).0, ErrorCode::Signature);
}

#[test]
fn silence_makes_a_node_offline_and_a_heartbeat_brings_it_back_whole() {
    let mut directory = directory();
    let agent = Agent::named(&mut directory, 1, "worker");
    let asker = Agent::registered(&mut directory, 2);
    let later = NOW + OFFLINE_AFTER_SECS + 1;
    asker.ok(&mut directory, later, asker.heartbeat());
    assert_eq!(asker.error(&mut directory, later, asker.resolve(&agent)).0, ErrorCode::Offline);
    let effects = directory.handle_timeout(later);
    assert!(
        matches!(&effects[..], [Effect::PutNode(r)] if r.id == agent.id && r.offline_since.is_some())
    );
    assert!(directory.handle_timeout(later).is_empty(), "said once");
    agent.ok(&mut directory, later, agent.heartbeat());
    asker.ok(&mut directory, later, asker.resolve(&agent));
    assert_eq!(found(by_hostname(&mut directory, later, "worker")).node_id, agent.id);
}

#[test]
fn the_effects_rebuild_the_directory() {
    let mut directory = directory();
    let mut effects = Vec::new();
    let agent = Agent::named(&mut directory, 1, "worker");
    let peer = Agent::registered(&mut directory, 2);
    for (who, request) in [
        (&agent, Request::Register(agent.registration())),
        (&agent, agent.set_public(false)),
        (&agent, agent.set_capabilities(&["weather"])),
        (&agent, Request::ReportTrust { node_id: agent.id, peer_id: peer.id, signature: None }),
        (
            &peer,
            Request::RequestHandshake {
                from_node_id: peer.id,
                to_node_id: agent.id,
                justification: "hi".into(),
                signature: None,
            },
        ),
    ] {
        effects.extend(who.ask(&mut directory, NOW, request).effects);
    }
    effects.push(Effect::PutNode(Box::new(directory.nodes[&peer.id].record.clone())));

    let mut restored = super::directory();
    for effect in effects {
        restored.apply(NOW + 1000, effect);
    }
    let later = NOW + 1001;
    let info = looked_up(&mut restored, agent.id);
    assert_eq!((info.hostname.as_str(), info.public), ("worker", false));
    assert_eq!(info.capabilities, ["weather"]);
    peer.ok(&mut restored, later, peer.resolve(&agent));
    let poll = Request::PollHandshakes { node_id: agent.id, signature: None };
    let response = agent.ok(&mut restored, later, poll);
    let Response::PollHandshakesOk { requests, .. } = response else { panic!() };
    assert_eq!(requests[0].from_node_id, peer.id);
}

use super::*;

#[test]
fn one_address_cannot_flood_and_others_are_not_disturbed() {
    let config = DirectoryConfig { requests_per_sec: 10, ..DirectoryConfig::default() };
    let mut directory = Directory::new(config);
    let ask = |directory: &mut Directory, now, from: &str| {
        let from = SocketAddr::new(from.parse().unwrap(), 1);
        let outcome = directory.handle(now, from, Request::BeaconList {});
        matches!(outcome.response, Response::BeaconListOk { .. })
    };
    let burst = (0..200).filter(|_| ask(&mut directory, NOW, "192.0.2.1")).count();
    assert_eq!(burst, 50);
    assert!(ask(&mut directory, NOW, "192.0.2.2"));
    let refilled = (0..200).filter(|_| ask(&mut directory, NOW + 1, "192.0.2.1")).count();
    assert_eq!(refilled, 10);
    // A /64 is one subscriber; loopback is this machine.
    let v6 = |n| format!("2001:db8:1:2::{n}");
    assert_eq!((1..200).filter(|n| ask(&mut directory, NOW, &v6(*n))).count(), 50);
    assert!((0..200).all(|_| ask(&mut directory, NOW, "127.0.0.1")));
    assert!((0..200).all(|_| ask(&mut directory, NOW, "::ffff:127.0.0.1")));
}

#[test]
fn nodes_that_share_an_address_have_an_allowance_each() {
    let config = DirectoryConfig { requests_per_sec: 10, ..DirectoryConfig::default() };
    let mut directory = Directory::new(config);
    let shared = "192.0.2.1:7".parse().unwrap();
    let mut agents: Vec<Agent> = (1..=20).map(Agent::new).collect();
    for agent in &mut agents {
        agent.from = shared;
        agent.register(&mut directory, NOW);
    }
    let beat = |directory: &mut Directory, agent: &Agent| {
        let outcome = agent.ask(directory, NOW, agent.heartbeat());
        matches!(outcome.response, Response::HeartbeatOk { .. })
    };
    // A signed request is worth two, and a node has 50 at once.
    let greedy = (0..100).filter(|_| beat(&mut directory, &agents[0])).count();
    assert_eq!(greedy, 25);
    for agent in &agents[1..] {
        assert!((0..10).all(|_| beat(&mut directory, agent)), "it pays for itself");
    }
    // Whoever signs for a node without its key has only what a stranger has.
    let forger = Agent { id: agents[1].id, from: shared, ..Agent::new(99) };
    assert!((0..100).all(|_| !beat(&mut directory, &forger)));
    let ask =
        |directory: &mut Directory| forger.ask(directory, NOW, Request::BeaconList {}).response;
    let refused = [ask(&mut directory), ask(&mut directory)].into_iter().last().unwrap();
    assert!(matches!(refused, Response::Error { code: ErrorCode::Limited, .. }), "{refused:?}");
}

#[test]
fn new_keys_are_limited_known_ones_are_not() {
    let config =
        DirectoryConfig { new_nodes_per_min: 3, new_nodes_burst: 3, ..DirectoryConfig::default() };
    let mut directory = Directory::new(config);
    let register = |directory: &mut Directory, now, seed: u8| {
        let mut agent = Agent::new(seed);
        agent.from = "192.0.2.1:7".parse().unwrap();
        let outcome = agent.ask(directory, now, Request::Register(agent.registration()));
        matches!(outcome.response, Response::RegisterOk { .. })
    };
    assert_eq!((1..=10).filter(|seed| register(&mut directory, NOW, *seed)).count(), 3);
    assert!((0..20).all(|_| register(&mut directory, NOW, 1)));
    assert!(!register(&mut directory, NOW + 19, 50));
    assert!(register(&mut directory, NOW + 20, 50));
}

#[test]
fn a_full_directory_forgets_the_node_longest_offline_and_no_other() {
    let config = DirectoryConfig { max_nodes: 2, ..DirectoryConfig::default() };
    let mut directory = Directory::new(config);
    let first = Agent::registered(&mut directory, 1);
    let second = Agent::registered(&mut directory, 2);
    let third = Agent::new(3);
    let register = Request::Register(third.registration());
    assert_eq!(third.error(&mut directory, NOW, register.clone()).0, ErrorCode::Limited);
    let later = NOW + 2 * 3600;
    second.ok(&mut directory, later, second.heartbeat());
    let outcome = third.ask(&mut directory, later, register);
    assert!(matches!(outcome.response, Response::RegisterOk { .. }));
    assert!(outcome.effects.contains(&Effect::RemoveNode(first.id)), "{:?}", outcome.effects);
    second.ok(&mut directory, later, second.heartbeat());
}

#[test]
fn an_inbox_is_bounded_in_number_and_size() {
    let mut directory = directory();
    let target = Agent::registered(&mut directory, 250);
    let request = |from: NodeId, len| Request::RequestHandshake {
        from_node_id: from,
        to_node_id: target.id,
        justification: "x".repeat(len),
        signature: None,
    };
    for seed in 1..=101 {
        let mut agent = Agent::new(seed);
        agent.register(&mut directory, NOW);
        let outcome = agent.ask(&mut directory, NOW, request(agent.id, 1024));
        match outcome.response {
            Response::RequestHandshakeOk { .. } => assert!(seed <= 100),
            Response::Error { code, .. } => assert_eq!((seed, code), (101, ErrorCode::Limited)),
            other => panic!("{other:?}"),
        }
    }
    let mut agent = Agent::new(102);
    agent.register(&mut directory, NOW);
    assert_eq!(agent.error(&mut directory, NOW, request(agent.id, 1025)).0, ErrorCode::Invalid);
}

#[test]
fn lists_that_a_node_sets_are_bounded() {
    let mut directory = directory();
    let agent = Agent::registered(&mut directory, 1);
    let set_tags =
        |tags: Vec<String>| Request::SetTags { node_id: agent.id, tags, signature: None };
    let tags = agent.ok(&mut directory, NOW, set_tags(vec!["#fx".into(), "a-1".into()]));
    let Response::SetTagsOk { tags, .. } = tags else { panic!() };
    assert_eq!(tags, ["fx", "a-1"]);
    for bad in [vec!["x".into(); 11], vec!["X".into()], vec![String::new()], vec!["x".repeat(33)]] {
        assert_eq!(agent.error(&mut directory, NOW, set_tags(bad)).0, ErrorCode::Invalid);
    }
    let long = "x".repeat(65);
    for bad in [vec!["x"; 17], vec![""], vec![long.as_str()], vec!["a\nb"]] {
        let request = agent.set_capabilities(&bad);
        assert_eq!(agent.error(&mut directory, NOW, request).0, ErrorCode::Invalid, "{bad:?}");
    }
}

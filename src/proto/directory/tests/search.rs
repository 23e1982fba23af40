use super::*;

fn find(directory: &mut Directory, now: u64, query: &str) -> Vec<String> {
    let from = SocketAddr::from(([198, 51, 100, 1], 9));
    let request = Request::Find { query: query.into(), limit: 10 };
    let Response::FindOk { agents } = directory.handle(now, from, request).response else {
        panic!()
    };
    assert!(agents.windows(2).all(|pair| pair[0].score >= pair[1].score));
    agents.into_iter().map(|agent| agent.hostname).collect()
}

fn fleet(directory: &mut Directory) -> Vec<Agent> {
    let specialists: [(&str, &[&str]); 4] = [
        ("specialist-papers", &["academic citations", "bibliographic records"]),
        ("specialist-fx", &["historical exchange rates", "currency conversion"]),
        ("specialist-weather", &["aviation weather", "METAR reports"]),
        ("exchange-of-ideas", &["chat about anything academic"]),
    ];
    let mut agents = Vec::new();
    for (seed, (hostname, capabilities)) in (1..).zip(specialists) {
        let agent = Agent::named(directory, seed, hostname);
        agent.ok(directory, NOW, agent.set_capabilities(capabilities));
        agents.push(agent);
    }
    agents
}

#[test]
fn the_one_that_says_it_can_comes_first() {
    let mut directory = directory();
    fleet(&mut directory);
    let find = |directory: &mut Directory, query| find(directory, NOW, query);
    assert_eq!(find(&mut directory, "academic citations")[0], "specialist-papers");
    assert_eq!(find(&mut directory, "Exchange rate, history")[0], "specialist-fx");
    assert_eq!(find(&mut directory, "aviation weather"), ["specialist-weather"]);
    assert_eq!(find(&mut directory, "metar report"), ["specialist-weather"]);
    assert_eq!(find(&mut directory, "specialist").len(), 3);
    assert!(find(&mut directory, "plumbing").is_empty());
    assert!(find(&mut directory, "").is_empty());
}

#[test]
fn equal_matches_come_in_the_same_order_every_time() {
    let order = |seeds: [u8; 3]| {
        let mut directory = directory();
        for seed in seeds {
            let agent = Agent::named(&mut directory, seed, &format!("agent-{seed}"));
            agent.ok(&mut directory, NOW, agent.set_capabilities(&["translation"]));
        }
        find(&mut directory, NOW, "translation")
    };
    assert_eq!(order([1, 2, 3]), order([3, 1, 2]));
}

#[test]
fn who_is_gone_or_no_longer_public_is_not_found() {
    let mut directory = directory();
    let agents = fleet(&mut directory);
    let weather = &agents[2];
    weather.ok(&mut directory, NOW, weather.set_public(false));
    assert!(find(&mut directory, NOW, "weather").is_empty());
    weather.ok(&mut directory, NOW, weather.set_public(true));
    assert_eq!(find(&mut directory, NOW, "weather").len(), 1);
    let later = NOW + OFFLINE_AFTER_SECS + 1;
    assert!(find(&mut directory, later, "weather").is_empty());
    weather.ok(&mut directory, later, weather.heartbeat());
    assert_eq!(find(&mut directory, later, "weather").len(), 1);
    weather.ok(&mut directory, later, weather.set_capabilities(&[]));
    assert_eq!(find(&mut directory, later, "metar").len(), 0);
}

//! Copies of frames with a forged source: they move nothing, and turn nobody into a weapon.

use std::net::SocketAddr;

use rand::RngExt;

use crate::traffic::Traffic;
use crate::{ms, pair, seconds, with_seeds};

/// An attacker on the way takes datagrams of one end away and sends them on from the victim's
/// address; or is faster than the original.
#[test]
fn a_forged_source_gets_little_and_moves_nothing() {
    with_seeds(20, |seed| {
        let mut world = pair(seed, [None, None]);
        let mut traffic = Traffic::new(&mut world, 0, 1);
        assert!(traffic.exchange(&mut world, seconds(1)));
        world.run_for(seconds(2));
        let before = world.route(1, 0);
        let takes_away = seed % 2 == 0;
        let mut forged = std::collections::HashMap::<SocketAddr, usize>::new();
        for n in 0..200u16 {
            world.overheard = None;
            world.hosts[0].is_cut = takes_away && n % 10 == 0;
            traffic.write(&mut world, 0);
            world.hosts[0].is_cut = false;
            if let Some((_, to, data)) = world.overheard.take() {
                let port = 7_000 + if seed % 4 < 2 { 0 } else { n };
                let victim = SocketAddr::from(([198, 51, 100, 200], port));
                *forged.entry(victim).or_default() += data.len();
                // The original is under way: be faster.
                let latency = world.latency;
                world.latency = ms(1);
                world.launch(None, victim, to, data);
                world.latency = latency;
            }
            let pause = ms(world.rng.random_range(5..100));
            world.run_for(pause);
            traffic.read(&mut world);
            assert_eq!(world.route(1, 0), before, "it went to somebody else");
        }
        assert!(traffic.settle(&mut world, seconds(3)));
        for (victim, (sent, _)) in &world.nowhere {
            let came = forged.get(victim).copied().unwrap_or(0);
            assert!(*sent <= 3 * came, "{victim}: {sent} bytes for {came}");
        }
    });
}

//! Links as text.

use std::time::Duration;

use linkem::{LinkParams, Loss};

#[test]
fn every_part_is_understood() {
    let text = "rate=100mbit, queue=250kB, delay=10ms, jitter=1.5ms, keep-order, loss=1%, \
                duplicate=2%, reorder=3%/5ms, corrupt=0.5, mtu=1280, dead-after=2s, down, seed=7";
    let expected = LinkParams {
        rate: Some(12_500_000),
        queue: Some(250_000),
        delay: Duration::from_millis(10),
        jitter: Duration::from_micros(1500),
        keep_order: true,
        loss: Loss::Bernoulli(0.01),
        duplicate: 0.02,
        reorder: 0.03,
        reorder_by: Some(Duration::from_millis(5)),
        corrupt: 0.5,
        mtu: Some(1280),
        dead_after: Some(Duration::from_secs(2)),
        down: true,
        seed: 7,
    };
    assert_eq!(text.parse(), Ok(expected));
    assert_eq!("".parse(), Ok(LinkParams::default()));
}

#[test]
fn bursts_are_said_in_two_ways() {
    let loss = |text: &str| text.parse::<LinkParams>().map(|params| params.loss);
    let bursts = Loss::Bursts { enter: 0.002, leave: 0.2, loss: 0.9 };
    assert_eq!(loss("burst=0.2%/20%/90%"), Ok(bursts));
    assert_eq!(loss("loss=50%/4"), Ok(Loss::Bursts { enter: 0.25, leave: 0.25, loss: 1.0 }));
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let mut params: LinkParams = "rate=1mbit,delay=10ms,loss=1%,mtu=1280".parse().expect("legal");
    params.apply("loss=3%,rate=none,mtu=none").expect("legal");
    assert_eq!(params, "delay=10ms,loss=3%".parse().expect("legal"));
    let before = params;
    assert!(params.apply("delay=20ms,rate=fast").is_err());
    assert_eq!(params, before, "half a change is none");
}

#[test]
fn a_link_is_shown_as_it_was_written() {
    for text in [
        "",
        "rate=100mbit,queue=250kB,delay=10ms,loss=1%,seed=7",
        "rate=1500kbit,delay=333us,jitter=50ms,loss=0.1%,keep-order",
        "burst=0.2%/20%/100%,duplicate=5%,reorder=1%,corrupt=2.5%,down",
        "queue=1MiB,reorder=1%/5ms,mtu=1280,dead-after=2s",
    ] {
        assert_eq!(text.parse::<LinkParams>().expect(text).to_string(), text);
    }
}

#[test]
fn what_is_shown_means_the_same() {
    let params = LinkParams {
        rate: Some(1_234_567),
        queue: Some(4097),
        delay: Duration::from_nanos(1_000_001),
        loss: Loss::bursts(1.0 / 3.0, 7.0),
        reorder: 0.123_456_789,
        reorder_by: Some(Duration::ZERO),
        corrupt: 1e-9,
        seed: u64::MAX,
        ..LinkParams::default()
    };
    assert_eq!(params.to_string().parse(), Ok(params), "{params}");
}

#[test]
fn what_is_not_understood_is_named() {
    for (text, named) in [
        ("delay=10ms,speed=3", "speed"),
        ("delay=10", "delay=10"),
        ("delay=-1ms", "delay=-1ms"),
        ("delay", "delay"),
        ("down=yes", "down=yes"),
        ("loss=101%", "loss=101%"),
        ("loss=nan", "loss=nan"),
        ("loss=1%/0", "loss=1%/0"),
        ("burst=1%/2%", "burst=1%/2%"),
        ("burst=1%/2%/3%/4%", "burst=1%/2%/3%/4%"),
        ("rate=0bit", "rate=0bit"),
        ("rate=99999999999999999999gbit", "rate"),
        ("mtu=-1", "mtu=-1"),
    ] {
        let error = text.parse::<LinkParams>().expect_err(text).to_string();
        assert!(error.contains(&format!("`{named}")), "{text}: {error}");
    }
}

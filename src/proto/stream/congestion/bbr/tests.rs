use super::super::RateSample;
use super::*;

const MSS: u64 = 1000;
const MS: Duration = Duration::from_millis(1);

/// A path that delivers `rate` bytes per second after `rtt`, one acknowledgement each millisecond.
struct Path {
    bbr: Bbr,
    now: Instant,
    rtt: Duration,
    rate: u64,
    delivered: u64,
    lost: u64,
}

impl Path {
    fn new(rate: u64, rtt: Duration) -> Self {
        let now = Instant::now();
        Self { bbr: Bbr::new(now, MSS), now, rtt, rate, delivered: 0, lost: 0 }
    }

    /// Acknowledges for so long what the window lets through; `loss` is the share that is lost.
    fn run(&mut self, time: Duration, loss: f64) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            let most = rate_bytes(self.bbr.cwnd(), self.rtt).min(self.rate);
            let paced = self.bbr.pacing_rate(Some(self.rtt)).unwrap_or(u64::MAX);
            let bytes = most.min(paced) / 1000;
            let arrived = (bytes as f64 * (1.0 - loss)) as u64;
            self.delivered += arrived;
            self.lost += bytes - arrived;
            let flight = arrived * self.rtt.as_millis() as u64;
            let sample = RateSample {
                delivered: flight,
                interval: self.rtt,
                prior_delivered: self.delivered.saturating_sub(flight),
                is_app_limited: false,
            };
            self.bbr.on_ack(&Ack {
                now: self.now,
                acked: arrived,
                delivered: arrived,
                total_delivered: self.delivered,
                total_lost: self.lost,
                in_flight_before: flight + arrived,
                in_flight: flight,
                rtt: Some(self.rtt),
                in_recovery: loss > 0.0,
                rate: Some(sample),
            });
        }
    }
}

fn rate_bytes(bytes: u64, rtt: Duration) -> u64 {
    rate(bytes, rtt).unwrap()
}

#[test]
fn it_finds_the_bandwidth_and_keeps_it_through_loss() {
    let mut path = Path::new(10_000_000, 20 * MS);
    path.run(1000 * MS, 0.0);
    let found = path.bbr.bandwidth();
    assert!((9_500_000..=10_500_000).contains(&found), "{found}");
    assert!(path.bbr.is_full && path.bbr.cwnd() <= 2 * 200_000, "{}", path.bbr.cwnd());
    path.run(3000 * MS, 0.05);
    let after = path.bbr.bandwidth();
    assert!(after > 9_000_000, "5 % of loss: {after}");
    path.run(3000 * MS, 0.4);
    let after = path.bbr.bandwidth();
    assert!(after < 4_000_000, "40 % of loss: {after}");
}

#[test]
fn the_first_timeout_keeps_what_is_known_and_the_second_forgets_it() {
    let mut path = Path::new(10_000_000, 20 * MS);
    path.run(1000 * MS, 0.0);
    path.bbr.on_timeout(path.now, Some(200_000));
    assert_eq!(path.bbr.cwnd(), MSS);
    assert!(path.bbr.bandwidth() > 9_000_000);
    let mut late = path.bbr.clone();
    late.on_spurious();
    assert!(late.cwnd() > 200_000, "it was only late");
    path.bbr.on_timeout(path.now, None);
    assert_eq!((path.bbr.bandwidth(), path.bbr.mode), (0, Mode::Startup));
}

#[test]
fn a_small_exchange_does_not_hold_up_the_large_one_after_it() {
    let mut bbr = Bbr::new(Instant::now(), MSS);
    let now = Instant::now() + 20 * MS;
    bbr.on_ack(&Ack {
        now,
        acked: 10,
        delivered: 10,
        total_delivered: 10,
        total_lost: 0,
        in_flight_before: 10,
        in_flight: 0,
        rtt: Some(20 * MS),
        in_recovery: false,
        rate: Some(RateSample {
            delivered: 10,
            interval: 20 * MS,
            prior_delivered: 0,
            is_app_limited: true,
        }),
    });
    let rate = bbr.pacing_rate(Some(20 * MS)).unwrap();
    assert!(rate >= 2 * 10_000 * 50, "twice the initial window each round trip: {rate}");
    assert!(bbr.cwnd() >= 10_000);
}

#[test]
fn below_the_floor_the_window_limits_alone_and_gives_way_to_overflow() {
    let mut path = Path::new(1_000_000_000, MS / 20);
    path.rtt = MS / 20;
    let mut bbr = path.bbr.clone();
    for n in 1..2000 {
        let now = path.now + MS * n;
        let delivered = u64::from(n) * 1_000_000;
        bbr.on_ack(&Ack {
            now,
            acked: 1_000_000,
            delivered: 1_000_000,
            total_delivered: delivered,
            total_lost: 0,
            in_flight_before: 1_000_000,
            in_flight: 0,
            rtt: Some(path.rtt),
            in_recovery: false,
            rate: Some(RateSample {
                delivered: 1_000_000,
                interval: MS,
                prior_delivered: delivered - 1_000_000,
                is_app_limited: false,
            }),
        });
    }
    assert_eq!(bbr.pacing_rate(Some(path.rtt)), None);
    assert_eq!(bbr.cwnd(), SHORT_PATH_CWND, "a millisecond and a half would be 1.5 MB");
    bbr.on_congestion(&Congestion { now: path.now, flight_size: 1_000_000, in_flight: 900_000 });
    assert_eq!(bbr.ceiling, Some(700_000));
}

#[test]
fn after_a_pause_it_goes_on_at_the_known_rate_without_probing() {
    let mut path = Path::new(10_000_000, 20 * MS);
    path.run(1000 * MS, 0.0);
    path.bbr.on_restart(path.now + 5000 * MS);
    let rate = path.bbr.pacing_rate(Some(20 * MS)).unwrap();
    assert_eq!(rate, path.bbr.bandwidth());
}

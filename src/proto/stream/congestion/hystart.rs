//! HyStart++ (RFC 9406): leaves slow start when round trips grow, before the queue overflows.
//!
//! A longer round trip may be a passing one, so slow start is not left at once but slowed down,
//! for a few rounds, in which the old speed comes back if the round trip does.

use std::time::Duration;

// RFC 9406 s4.3
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

/// What slow start does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Grow by so many bytes.
    By(u64),
    /// Slow start is over.
    Stop,
}

/// State of slow start; of no use after it.
#[derive(Debug, Clone, Default)]
pub(super) struct HyStart {
    /// Bytes delivered on the stream at which the round ends.
    round_end: Option<u64>,
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    css: Option<Css>,
}

/// Conservative slow start.
#[derive(Debug, Clone)]
struct Css {
    baseline: Duration,
    rounds: u32,
}

impl HyStart {
    /// Takes an acknowledgement in slow start. `in_flight` is what it leaves in the network.
    pub(super) fn on_ack(
        &mut self,
        acked: u64,
        total_delivered: u64,
        in_flight: u64,
        rtt: Option<Duration>,
    ) -> Growth {
        let mut css_over = false;
        if self.round_end.is_none_or(|end| total_delivered >= end) {
            self.round_end = Some(total_delivered + in_flight.max(1));
            self.last_round_min = self.round_min.take();
            self.samples = 0;
            if let Some(css) = &mut self.css {
                css.rounds += 1;
                css_over = css.rounds >= CSS_ROUNDS;
            }
        }
        if css_over {
            return Growth::Stop;
        }
        if let Some(rtt) = rtt {
            self.samples += 1;
            self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        }
        if self.samples >= N_RTT_SAMPLE
            && let (Some(current), Some(last)) = (self.round_min, self.last_round_min)
        {
            match &self.css {
                None => {
                    let thresh = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                    if current >= last + thresh {
                        self.css = Some(Css { baseline: current, rounds: 0 });
                    }
                }
                Some(css) if current < css.baseline => self.css = None,
                Some(_) => {}
            }
        }
        Growth::By(if self.css.is_some() { acked / CSS_GROWTH_DIVISOR } else { acked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One round of ten acknowledgements, or until slow start ends; what the last of them said.
    fn round(hystart: &mut HyStart, delivered: &mut u64, rtt: Duration) -> Growth {
        let mut growth = Growth::By(0);
        for _ in 0..10 {
            *delivered += 1000;
            growth = hystart.on_ack(1000, *delivered, 10_000, Some(rtt));
            if growth == Growth::Stop {
                break;
            }
        }
        growth
    }

    #[test]
    fn round_trips_that_grow_slow_the_growth_down_and_then_end_it() {
        let (mut hystart, mut delivered) = (HyStart::default(), 0);
        assert_eq!(round(&mut hystart, &mut delivered, 40 * MS), Growth::By(1000));
        assert_eq!(round(&mut hystart, &mut delivered, 42 * MS), Growth::By(1000), "noise");
        assert_eq!(round(&mut hystart, &mut delivered, 50 * MS), Growth::By(250));
        let rounds = (0..9).find(|_| round(&mut hystart, &mut delivered, 50 * MS) == Growth::Stop);
        assert!(rounds.is_some_and(|rounds| (3..=5).contains(&rounds)), "{rounds:?}");
    }

    #[test]
    fn round_trips_that_shrink_again_give_slow_start_back() {
        let (mut hystart, mut delivered) = (HyStart::default(), 0);
        round(&mut hystart, &mut delivered, 40 * MS);
        assert_eq!(round(&mut hystart, &mut delivered, 60 * MS), Growth::By(250));
        assert_eq!(round(&mut hystart, &mut delivered, 41 * MS), Growth::By(1000));
    }
}

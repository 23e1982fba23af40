//! What a link does to packets.

use std::time::Duration;

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Each for itself, with this probability.
    Bernoulli(f64),
    /// In bursts (Gilbert and Elliott).
    Bursts {
        /// Probability, for each packet, of falling into a burst.
        enter: f64,
        /// Probability, for each packet of a burst, of leaving it.
        leave: f64,
        /// Probability of loss during a burst.
        loss: f64,
    },
}

impl Loss {
    /// Bursts in which every packet is lost, `packets` long on average, that lose `share` of all.
    ///
    /// A burst has at least one packet; shorter ones are taken as one.
    #[must_use]
    pub fn bursts(share: f64, packets: f64) -> Self {
        let leave = 1.0 / packets.max(1.0);
        // In the long run the chain is in a burst for enter / (enter + leave) of all packets.
        let enter = if share < 1.0 { (share * leave / (1.0 - share)).min(1.0) } else { 1.0 };
        Self::Bursts { enter, leave, loss: 1.0 }
    }

    /// The share of packets that are lost in the long run.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::Bernoulli(share) => share,
            Self::Bursts { enter: 0.0, .. } => 0.0,
            Self::Bursts { enter, leave, loss } => loss * enter / (enter + leave),
        }
    }
}

/// What a link does to packets. Probabilities are from 0 to 1 and for each packet.
///
/// The default is a perfect link: no delay, no limit. As text, see the implementation of
/// [`FromStr`](#impl-FromStr-for-LinkParams).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkParams {
    /// Bytes per second; `None` is no limit, and no queue.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn, beyond which the tail is dropped; `None` is what
    /// [`queue_bytes`](Self::queue_bytes) says.
    pub queue: Option<u64>,
    /// From one end to the other.
    pub delay: Duration,
    /// Added to the delay, evenly distributed from nothing to this. Packets overtake each other by
    /// it, unless `keep_order`.
    pub jitter: Duration,
    /// Whether jitter leaves packets in order, as a queue somewhere on the way would.
    pub keep_order: bool,
    /// How packets are lost.
    pub loss: Loss,
    /// Probability of a second copy.
    pub duplicate: f64,
    /// Probability of being held back while others overtake.
    pub reorder: f64,
    /// How long such a packet is held back; `None` is once to three times the delay.
    pub reorder_by: Option<Duration>,
    /// Probability of one flipped bit.
    pub corrupt: f64,
    /// Bytes of the largest packet that gets through; larger ones vanish without a word.
    pub mtu: Option<usize>,
    /// From then on, counted from the link's start, nothing that is sent gets through.
    pub dead_after: Option<Duration>,
    /// Whether nothing that is sent gets through now.
    pub down: bool,
    /// Of all that is left to chance.
    pub seed: u64,
}

impl LinkParams {
    /// A link that does nothing but take time.
    #[must_use]
    pub fn clean(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The bytes that may wait in front of a limited rate: `queue`, or else what the link carries
    /// in two delays (a round trip, if the way back is like this one), but no less than 64 kB.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        self.queue.unwrap_or_else(|| {
            let round_trip = 2.0 * self.delay.as_secs_f64() * self.rate.unwrap_or(0) as f64;
            (round_trip as u64).max(64_000)
        })
    }

    /// The same with another seed, for the way back: two directions do not share their fate.
    #[must_use]
    pub fn for_way_back(self) -> Self {
        Self { seed: self.seed.wrapping_add(1 << 32), ..self }
    }
}

impl Default for LinkParams {
    fn default() -> Self {
        Self {
            rate: None,
            queue: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            keep_order: false,
            loss: Loss::Bernoulli(0.0),
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: None,
            corrupt: 0.0,
            mtu: None,
            dead_after: None,
            down: false,
            seed: 0,
        }
    }
}

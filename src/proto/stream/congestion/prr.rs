//! Proportional rate reduction (RFC 6937): how a window shrinks to its threshold during recovery.
//!
//! Falling to the threshold at once would stop sending for half a round trip, and then let out
//! what is lost in a burst. Instead, for every byte delivered a part of a byte is sent, so that
//! in flight is the threshold's worth when a round trip has passed.

/// One recovery.
#[derive(Debug, Clone)]
pub(super) struct Prr {
    /// RecoverFS: bytes in flight when the loss was found.
    recover_fs: u64,
    ssthresh: u64,
    delivered: u64,
    out: u64,
}

impl Prr {
    pub(super) fn new(flight_size: u64, ssthresh: u64) -> Self {
        Self { recover_fs: flight_size.max(1), ssthresh, delivered: 0, out: 0 }
    }

    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.out += bytes;
    }

    /// The window after an acknowledgement of `delivered` bytes with which `in_flight` are left.
    /// `is_safe`: it moved the left edge, so what is repaired stays repaired.
    pub(super) fn on_ack(
        &mut self,
        delivered: u64,
        in_flight: u64,
        is_safe: bool,
        mss: u64,
    ) -> u64 {
        self.delivered += delivered;
        let may_send = if in_flight > self.ssthresh {
            let share = u128::from(self.delivered) * u128::from(self.ssthresh);
            let share = share.div_ceil(u128::from(self.recover_fs));
            u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(self.out)
        } else {
            // Below the threshold: packet conservation, and slow start while that is safe (s3).
            let owed = self.delivered.saturating_sub(self.out);
            let limit = if is_safe { owed.max(delivered) + mss } else { owed };
            limit.min(self.ssthresh - in_flight)
        };
        // The first retransmission is never held back.
        let may_send = if self.out == 0 { may_send.max(mss) } else { may_send };
        in_flight + may_send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1000;

    #[test]
    fn in_flight_falls_to_the_threshold_within_a_round_trip_and_sending_never_stops() {
        let (mut in_flight, mut sent) = (99 * MSS, 0);
        let mut prr = Prr::new(100 * MSS, 50 * MSS);
        let mut gaps = 0;
        for _ in 0..99 {
            in_flight -= MSS;
            let cwnd = prr.on_ack(MSS, in_flight, false, MSS);
            let mut any = false;
            while in_flight + MSS <= cwnd {
                in_flight += MSS;
                sent += MSS;
                prr.on_sent(MSS);
                any = true;
            }
            gaps = if any { 0 } else { gaps + 1 };
            assert!(gaps <= 2);
        }
        assert!((49 * MSS..=51 * MSS).contains(&in_flight), "{in_flight}");
        assert!((49 * MSS..=51 * MSS).contains(&sent), "{sent}");
    }

    #[test]
    fn after_heavy_loss_it_grows_back_to_the_threshold_as_fast_as_slow_start() {
        let mut prr = Prr::new(100 * MSS, 50 * MSS);
        prr.on_sent(MSS);
        assert_eq!(prr.on_ack(MSS, 10 * MSS, false, MSS), 10 * MSS, "conservation");
        assert_eq!(prr.on_ack(2 * MSS, 9 * MSS, true, MSS), 12 * MSS);
        assert_eq!(prr.on_ack(MSS, 49 * MSS, true, MSS), 50 * MSS, "never above it");
    }
}

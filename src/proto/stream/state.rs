//! The states of RFC 9293 s3.3.2, without LISTEN (the endpoint listens).

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// We sent SYN and wait for the answer.
    #[default]
    SynSent,
    /// We answered a SYN and have not heard from the dialer since; data may flow already.
    SynReceived,
    /// Both directions are open.
    Established,
    /// We sent FIN; the peer has neither acknowledged it nor finished.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer has finished; we may still send.
    CloseWait,
    /// Both have finished at once; our FIN is not acknowledged.
    Closing,
    /// The peer finished first; our FIN is not acknowledged.
    LastAck,
    /// Over in both directions; late packets are still answered.
    TimeWait,
    /// Over, or failed.
    Closed,
}

impl State {
    /// Whether our FIN has been sent, or nothing can be sent any more.
    pub(super) fn fin_sent(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived | Self::Established | Self::CloseWait)
    }

    /// After our FIN was acknowledged.
    pub(super) fn after_fin_acked(self) -> Self {
        match self {
            Self::FinWait1 => Self::FinWait2,
            Self::Closing => Self::TimeWait,
            Self::LastAck => Self::Closed,
            other => other,
        }
    }

    /// After the peer's FIN was received in order.
    pub(super) fn after_fin_received(self) -> Self {
        match self {
            Self::SynReceived | Self::Established => Self::CloseWait,
            Self::FinWait1 => Self::Closing,
            Self::FinWait2 => Self::TimeWait,
            other => other,
        }
    }
}

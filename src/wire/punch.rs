//! What two of our nodes tell each other, inside their tunnel, to punch through a symmetric NAT.
//!
//! ```text
//! "punch.v1" | kind u8 | attempt u32 | ...
//! want 1:  mapping u8 | filtering u8 | known u8 | [iplen u8 | IP | port u16]
//! plan 2:  iplen u8 | IP | port u16 (0) | count u8 | count x port u16
//! stop 3:  reason u8
//! ```
//! Bytes that follow are ignored: later versions may add to each kind.

use std::net::{IpAddr, SocketAddr as Endpoint};

use super::beacon::{read_endpoint, write_endpoint};
use super::{WireError, cursor::Reader};

/// How a message begins.
const MAGIC: &[u8; 8] = b"punch.v1";
/// Ports in one plan at most.
pub const MAX_PREDICTED: usize = 64;

/// A message of [the module](self).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PunchMessage {
    /// "Let us have a direct path. This is my NAT, and this my address outside, if I know it."
    Want {
        /// Names the attempt.
        attempt: u32,
        /// Mapping behaviour, as a number of the sender's protocol layer.
        mapping: u8,
        /// Filtering behaviour, likewise.
        filtering: u8,
        /// Where the sender's main socket is seen.
        outside: Option<Endpoint>,
    },
    /// "I am opening many ports at this address toward you. Try these first, then others."
    Plan {
        /// The attempt that was wanted.
        attempt: u32,
        /// The sender's address outside.
        ip: IpAddr,
        /// Ports that it probably has, best first.
        predicted: Vec<u16>,
    },
    /// "I shall not go on."
    Stop {
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: StopReason,
    },
}

/// Why an attempt ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopReason {
    /// There is a direct path.
    Done,
    /// Another attempt is under way; later, perhaps.
    Busy,
    /// Two such NATs cannot be punched through in this way, or need not be.
    Hopeless,
    /// It took too long, or what it needs is not there.
    Failed,
}

impl PunchMessage {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let mut head = |kind: u8, attempt: u32| {
            out.push(kind);
            out.extend_from_slice(&attempt.to_be_bytes());
        };
        match self {
            Self::Want { attempt, mapping, filtering, outside } => {
                head(1, *attempt);
                out.extend_from_slice(&[*mapping, *filtering, u8::from(outside.is_some())]);
                if let Some(outside) = outside {
                    write_endpoint(*outside, out);
                }
            }
            Self::Plan { attempt, ip, predicted } => {
                head(2, *attempt);
                write_endpoint(Endpoint::new(*ip, 0), out);
                let predicted = &predicted[..predicted.len().min(MAX_PREDICTED)];
                out.push(predicted.len() as u8);
                predicted.iter().for_each(|port| out.extend_from_slice(&port.to_be_bytes()));
            }
            Self::Stop { attempt, reason } => {
                head(3, *attempt);
                out.push(match reason {
                    StopReason::Done => 0,
                    StopReason::Busy => 1,
                    StopReason::Hopeless => 2,
                    StopReason::Failed => 3,
                });
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is something else, or not whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("punch message", bytes);
        if r.array_ref()? != MAGIC {
            return Err(WireError::Invalid { what: "punch message" });
        }
        let (kind, attempt) = (r.u8()?, r.u32()?);
        match kind {
            1 => {
                let (mapping, filtering, known) = (r.u8()?, r.u8()?, r.u8()?);
                let outside = if known == 0 { None } else { Some(read_endpoint(&mut r)?) };
                Ok(Self::Want { attempt, mapping, filtering, outside })
            }
            2 => {
                let ip = read_endpoint(&mut r)?.ip();
                let count = usize::from(r.u8()?);
                WireError::check_len("predicted ports", count, MAX_PREDICTED)?;
                let predicted = (0..count).map(|_| r.u16()).collect::<Result<_, _>>()?;
                Ok(Self::Plan { attempt, ip, predicted })
            }
            3 => {
                let reason = match r.u8()? {
                    0 => StopReason::Done,
                    1 => StopReason::Busy,
                    2 => StopReason::Hopeless,
                    _ => StopReason::Failed,
                };
                Ok(Self::Stop { attempt, reason })
            }
            _ => Err(WireError::Invalid { what: "kind of punch message" }),
        }
    }

    /// Which attempt it is about.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Want { attempt, .. }
            | Self::Plan { attempt, .. }
            | Self::Stop { attempt, .. } => *attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<PunchMessage> {
        let outside = Some("203.0.113.7:4000".parse().unwrap());
        let want = |outside| PunchMessage::Want { attempt: 7, mapping: 4, filtering: 0, outside };
        let plan = |ip: &str, predicted| PunchMessage::Plan {
            attempt: u32::MAX,
            ip: ip.parse().unwrap(),
            predicted,
        };
        let reasons =
            [StopReason::Done, StopReason::Busy, StopReason::Hopeless, StopReason::Failed];
        let stops = reasons.map(|reason| PunchMessage::Stop { attempt: 1, reason });
        let mut all = vec![
            want(None),
            want(outside),
            plan("203.0.113.7", vec![]),
            plan("2001:db8::1", (0..MAX_PREDICTED as u16).collect()),
        ];
        all.extend(stops);
        all
    }

    #[test]
    fn a_message_is_read_as_it_was_written_whatever_follows() {
        for message in samples() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(PunchMessage::parse(&bytes), Ok(message.clone()));
            bytes.extend_from_slice(b"from a later version");
            assert_eq!(PunchMessage::parse(&bytes), Ok(message));
        }
    }

    #[test]
    fn a_message_that_is_not_whole_is_none() {
        for message in samples() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            for len in 0..bytes.len() {
                assert!(PunchMessage::parse(&bytes[..len]).is_err(), "{message:?} cut to {len}");
            }
        }
    }

    #[test]
    fn no_more_ports_are_taken_than_a_plan_has() {
        let mut bytes = Vec::new();
        let ip = "203.0.113.7".parse().unwrap();
        PunchMessage::Plan { attempt: 1, ip, predicted: vec![1; 200] }.encode(&mut bytes);
        let Ok(PunchMessage::Plan { predicted, .. }) = PunchMessage::parse(&bytes) else {
            panic!("it was cut")
        };
        assert_eq!(predicted.len(), MAX_PREDICTED);
    }
}

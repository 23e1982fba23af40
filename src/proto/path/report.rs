//! What a path looks like from outside.

use std::time::{Duration, Instant};

use super::Via;

/// What is known of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathState {
    /// Nothing yet.
    Unknown,
    /// It is being tried.
    Probing,
    /// It carries frames both ways.
    Valid,
    /// It should have answered, and has not.
    Suspect,
    /// It does not answer.
    Dead,
}

/// One path to a peer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PathReport {
    /// Which way.
    pub via: Via,
    /// What is known of it.
    pub state: PathState,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Share of frames lost of late, from 0 to 1.
    pub loss: Option<f32>,
    /// Bytes of UDP payload that it carries, once something large went there.
    pub mtu: Option<u16>,
    /// It is the one in use.
    pub is_active: bool,
    /// The last authenticated frame that came by it.
    pub last_received: Option<Instant>,
}

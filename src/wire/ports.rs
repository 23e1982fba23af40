//! Ports with a meaning, and the range that dialers take theirs from.

use std::ops::RangeInclusive;

/// Ping, keep-alive and path probe; control packets only.
pub const CONTROL: u16 = 0;
/// Sends back what it receives.
pub const ECHO: u16 = 7;
/// Names to addresses. No daemon runs one; names are resolved by the registry.
pub const NAMESERVER: u16 = 53;
/// HTTP, left to applications.
pub const HTTP: u16 = 80;
/// A second encrypted layer between applications.
pub const SECURE_CHANNEL: u16 = 443;
/// The [trust handshake](super::handshake).
pub const HANDSHAKE: u16 = 444;
/// A plain byte stream between two command-line tools.
pub const STDIO: u16 = 1000;
/// [Data exchange](super::frames::data): typed frames, each answered.
pub const DATA_EXCHANGE: u16 = 1001;
/// The [event stream](super::frames::event): publish and subscribe.
pub const EVENT_STREAM: u16 = 1002;
/// Task submission; nodes of February 2026 only.
pub const TASK_SUBMIT: u16 = 1003;
/// [Messages and requests](super::frames::message) between nodes of ours. A Go node answers a
/// dial to it with RST.
pub const MESSAGE: u16 = 1100;

/// Ports below this are reserved for services of the protocol.
pub const RESERVED_END: u16 = 1024;
/// Where dialers take their own ports from: in rising order, skipping those in use, wrapping.
pub const EPHEMERAL: RangeInclusive<u16> = 49152..=65535;

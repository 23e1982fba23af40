//! The packet: a 34-byte header and its payload, inside every tunnel frame.
//!
//! ```text
//!  0        1        2                 4                      10
//! +--------+--------+-----------------+----------------------+----------------------+
//! |ver|flag|protocol| payload length  | source net16 node32  | dest net16 node32    |
//! +--------+--------+-----------------+----------------------+----------------------+
//! 16                18                20          24         28        30           34
//! +-----------------+-----------------+-----------+----------+---------+------------+
//! | source port     | dest port       | seq       | ack      | window  | CRC-32     |
//! +-----------------+-----------------+-----------+----------+---------+------------+
//! ```
//! The CRC-32 (IEEE) covers the header with the checksum field zero, then the payload.

use super::cursor::Reader;
use super::{Addr, NodeId, Seq, WireError};

/// Bytes of the header.
pub const HEADER_LEN: usize = 34;
/// Offset of the checksum field.
const CHECKSUM_AT: usize = 30;
/// The only version there is.
const VERSION: u8 = 1;

/// Stream flags: SYN, ACK, FIN, RST.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream.
    pub const SYN: Self = Self(1);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(2);
    /// The sender has no more data.
    pub const FIN: Self = Self(4);
    /// The stream is gone.
    pub const RST: Self = Self(8);

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// A segment of a reliable stream.
    Stream = 1,
    /// One unreliable datagram.
    Datagram = 2,
    /// Ping, keep-alive and path probe.
    Control = 3,
}

/// All header fields but length and checksum, which follow from the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Stream flags.
    pub flags: Flags,
    /// What the payload is.
    pub protocol: Protocol,
    /// Sender; its node must be the one the tunnel authenticated.
    pub src: Addr,
    /// Receiver.
    pub dst: Addr,
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Number of the first payload byte.
    pub seq: Seq,
    /// Next byte expected from the peer.
    pub ack: Seq,
    /// Receive window, in segments (or in the unit that the stream's options agreed on).
    pub window: u16,
}

impl Header {
    /// Writes header and checksum into the first 34 bytes of `packet`, whose rest is the payload.
    ///
    /// # Errors
    /// If `packet` is shorter than a header or its payload longer than 65,535 bytes.
    pub fn encode(&self, packet: &mut [u8]) -> Result<(), WireError> {
        let have = packet.len();
        let Some((head, payload)) = packet.split_first_chunk_mut::<HEADER_LEN>() else {
            return Err(WireError::Truncated { what: "packet", need: HEADER_LEN, have });
        };
        let length = u16::try_from(payload.len()).map_err(|_| WireError::TooLong {
            what: "packet payload",
            len: payload.len(),
            limit: usize::from(u16::MAX),
        })?;
        head[0] = VERSION << 4 | self.flags.0 & 0x0f;
        head[1] = self.protocol as u8;
        head[2..4].copy_from_slice(&length.to_be_bytes());
        head[4..10].copy_from_slice(&self.src.to_bytes());
        head[10..16].copy_from_slice(&self.dst.to_bytes());
        head[16..18].copy_from_slice(&self.src_port.to_be_bytes());
        head[18..20].copy_from_slice(&self.dst_port.to_be_bytes());
        head[20..24].copy_from_slice(&self.seq.0.to_be_bytes());
        head[24..28].copy_from_slice(&self.ack.0.to_be_bytes());
        head[28..30].copy_from_slice(&self.window.to_be_bytes());
        head[CHECKSUM_AT..].fill(0);
        let crc = checksum(head, payload);
        head[CHECKSUM_AT..].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

/// A decoded packet; the payload is borrowed from the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Decodes a packet and verifies its checksum. Bytes after the payload are ignored.
    ///
    /// # Errors
    /// Truncated input, a version other than 1, an unknown protocol, or a bad checksum.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("packet", bytes);
        let head: [u8; HEADER_LEN] = r.array()?;
        let mut h = Reader::new("packet", &head);
        let version_flags = h.u8()?;
        let protocol = h.u8()?;
        let length = h.u16()?;
        let (src, dst) = (Addr::from_bytes(h.array()?), Addr::from_bytes(h.array()?));
        let (src_port, dst_port) = (h.u16()?, h.u16()?);
        let (seq, ack) = (Seq(h.u32()?), Seq(h.u32()?));
        let window = h.u16()?;
        let sum = h.u32()?;
        let payload = r.bytes(usize::from(length))?;
        if version_flags >> 4 != VERSION {
            return Err(WireError::Invalid { what: "packet version" });
        }
        let mut zeroed = head;
        zeroed[CHECKSUM_AT..].fill(0);
        if checksum(&zeroed, payload) != sum {
            return Err(WireError::Checksum);
        }
        let protocol = match protocol {
            1 => Protocol::Stream,
            2 => Protocol::Datagram,
            3 => Protocol::Control,
            _ => return Err(WireError::Invalid { what: "packet protocol" }),
        };
        let header = Header {
            flags: Flags(version_flags & 0x0f),
            protocol,
            src,
            dst,
            src_port,
            dst_port,
            seq,
            ack,
            window,
        };
        Ok(Self { header, payload })
    }

    /// The sender's node id.
    #[must_use]
    pub fn src_node(&self) -> NodeId {
        self.header.src.node
    }
}

fn checksum(zeroed_header: &[u8; HEADER_LEN], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(zeroed_header);
    hasher.update(payload);
    hasher.finalize()
}

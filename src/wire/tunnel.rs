//! Tunnel frames: what two nodes exchange in UDP datagrams, one frame each.
//!
//! ```text
//! PILS  magic(4) | sender u32 | nonce prefix(4) | counter u64 | ciphertext | tag(16)
//! PILA  magic(4) | node u32 | x25519 public(32) | ed25519 public(32) | signature(64)
//! PILK  magic(4) | node u32 | x25519 public(32)
//! PILT  magic(4) | packet                          plaintext: we never send and always ignore it
//! PILP  magic(4)                                   opens a NAT mapping, has no content
//! ```
//! The plaintext of PILS is one [packet](super::packet). A datagram whose first byte is below
//! 0x10 is a [beacon message](super::beacon) instead; [`is_tunnel`] tells the two apart.

use super::cursor::Reader;
use super::{NodeId, WireError};

/// Bytes before the ciphertext of a sealed frame.
pub const SEALED_HEADER_LEN: usize = 20;
/// Bytes of the AES-GCM tag at the end of a sealed frame.
pub const TAG_LEN: usize = 16;
/// What sealing adds to a packet.
pub const SEALED_OVERHEAD: usize = SEALED_HEADER_LEN + TAG_LEN;
/// Bytes of an authenticated key exchange.
pub const AUTH_LEN: usize = 136;
/// Bytes of an unauthenticated key exchange.
pub const KEY_LEN: usize = 40;

const PLAIN: [u8; 4] = *b"PILT";
const SEALED: [u8; 4] = *b"PILS";
const KEY: [u8; 4] = *b"PILK";
const AUTH: [u8; 4] = *b"PILA";
/// The whole punch frame.
pub const PUNCH: [u8; 4] = *b"PILP";

/// Whether a datagram belongs to the tunnel rather than to the beacon protocol (or to nothing).
#[must_use]
pub fn is_tunnel(datagram: &[u8]) -> bool {
    matches!(datagram.first_chunk(), Some(&(PLAIN | SEALED | KEY | AUTH | PUNCH)))
}

/// The clear part of a sealed frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SealedHeader {
    /// Who sealed it; names the key to open it with.
    pub sender: NodeId,
    /// First four bytes of the nonce: random, one for each time the sender derived a key.
    pub nonce_prefix: [u8; 4],
    /// Last eight bytes of the nonce: counts from 1 under one prefix.
    pub counter: u64,
}

impl SealedHeader {
    /// The nonce of the AEAD.
    #[must_use]
    pub fn nonce(&self) -> [u8; 12] {
        let [a, b, c, d] = self.nonce_prefix;
        let [e, f, g, h, i, j, k, l] = self.counter.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// The additional data of release 1.18: the sender as it stands in the header.
    #[must_use]
    pub fn aad(&self) -> [u8; 4] {
        self.sender.0.to_be_bytes()
    }

    /// The first bytes of the frame.
    #[must_use]
    pub fn encode(&self) -> [u8; SEALED_HEADER_LEN] {
        let mut out = [0; SEALED_HEADER_LEN];
        out[..4].copy_from_slice(&SEALED);
        out[4..8].copy_from_slice(&self.sender.0.to_be_bytes());
        out[8..].copy_from_slice(&self.nonce());
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { sender: NodeId(r.u32()?), nonce_prefix: r.array()?, counter: r.u64()? })
    }
}

/// Key exchange signed by the sender's identity.
///
/// The signature covers neither the receiver nor a time, so an old one can be replayed: it may
/// start a key exchange, but must not unseat a working one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthFrame<'a> {
    /// The sender.
    pub node: NodeId,
    /// Its X25519 key, fresh in each process.
    pub x25519_public: &'a [u8; 32],
    /// Its identity; trust it only if it is the key registered for `node`.
    pub ed25519_public: &'a [u8; 32],
    /// Signature over [`auth_signed_bytes`].
    pub signature: &'a [u8; 64],
}

impl AuthFrame<'_> {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> [u8; AUTH_LEN] {
        let mut out = [0; AUTH_LEN];
        out[..4].copy_from_slice(&AUTH);
        out[4..8].copy_from_slice(&self.node.0.to_be_bytes());
        out[8..40].copy_from_slice(self.x25519_public);
        out[40..72].copy_from_slice(self.ed25519_public);
        out[72..].copy_from_slice(self.signature);
        out
    }

    /// What the signature must cover.
    #[must_use]
    pub fn signed_bytes(&self) -> [u8; 40] {
        auth_signed_bytes(self.node, self.x25519_public)
    }
}

/// What the identity key signs in an authenticated key exchange: `"auth" | node u32 | x25519`.
#[must_use]
pub fn auth_signed_bytes(node: NodeId, x25519_public: &[u8; 32]) -> [u8; 40] {
    let mut out = [0; 40];
    out[..4].copy_from_slice(b"auth");
    out[4..8].copy_from_slice(&node.0.to_be_bytes());
    out[8..].copy_from_slice(x25519_public);
    out
}

/// Key exchange without an identity. We send it only to ask a peer for its [`AuthFrame`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFrame<'a> {
    /// The sender, by its own word.
    pub node: NodeId,
    /// Its X25519 key.
    pub x25519_public: &'a [u8; 32],
}

impl KeyFrame<'_> {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> [u8; KEY_LEN] {
        let mut out = [0; KEY_LEN];
        out[..4].copy_from_slice(&KEY);
        out[4..8].copy_from_slice(&self.node.0.to_be_bytes());
        out[8..].copy_from_slice(self.x25519_public);
        out
    }
}

/// One frame, borrowed from its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelFrame<'a> {
    /// PILS: an encrypted packet.
    Sealed {
        /// The clear part.
        header: SealedHeader,
        /// Ciphertext and tag.
        sealed: &'a [u8],
    },
    /// PILA: an authenticated key exchange.
    Auth(AuthFrame<'a>),
    /// PILK: an unauthenticated key exchange.
    Key(KeyFrame<'a>),
    /// PILT: a packet in clear.
    Plain(&'a [u8]),
    /// PILP: nothing; its arrival opened the way.
    Punch,
}

impl<'a> TunnelFrame<'a> {
    /// Decodes a frame. Bytes after a frame of fixed size are ignored, as release 1.18 does.
    ///
    /// # Errors
    /// The magic is unknown, or the datagram shorter than its layout.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("tunnel frame", datagram);
        match r.array()? {
            SEALED => {
                let header = SealedHeader::read(&mut r)?;
                require_tag(r.remaining())?;
                Ok(Self::Sealed { header, sealed: r.rest() })
            }
            AUTH => Ok(Self::Auth(AuthFrame {
                node: NodeId(r.u32()?),
                x25519_public: r.array_ref()?,
                ed25519_public: r.array_ref()?,
                signature: r.array_ref()?,
            })),
            KEY => {
                Ok(Self::Key(KeyFrame { node: NodeId(r.u32()?), x25519_public: r.array_ref()? }))
            }
            PLAIN => Ok(Self::Plain(r.rest())),
            PUNCH => Ok(Self::Punch),
            _ => Err(WireError::Invalid { what: "tunnel magic" }),
        }
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sealed { header, sealed } => {
                out.extend_from_slice(&header.encode());
                out.extend_from_slice(sealed);
            }
            Self::Auth(auth) => out.extend_from_slice(&auth.encode()),
            Self::Key(key) => out.extend_from_slice(&key.encode()),
            Self::Plain(packet) => {
                out.extend_from_slice(&PLAIN);
                out.extend_from_slice(packet);
            }
            Self::Punch => out.extend_from_slice(&PUNCH),
        }
    }
}

/// Splits a sealed frame for decryption in place: header, and ciphertext with tag.
///
/// # Errors
/// Not a sealed frame, or shorter than header and tag.
pub fn split_sealed(datagram: &mut [u8]) -> Result<(SealedHeader, &mut [u8]), WireError> {
    let have = datagram.len();
    let Some((head, sealed)) = datagram.split_first_chunk_mut::<SEALED_HEADER_LEN>() else {
        return Err(WireError::Truncated {
            what: "sealed frame",
            need: SEALED_HEADER_LEN + TAG_LEN,
            have,
        });
    };
    let mut r = Reader::new("sealed frame", head);
    if r.array()? != SEALED {
        return Err(WireError::Invalid { what: "tunnel magic" });
    }
    let header = SealedHeader::read(&mut r)?;
    require_tag(sealed.len())?;
    Ok((header, sealed))
}

fn require_tag(have: usize) -> Result<(), WireError> {
    if have < TAG_LEN {
        return Err(WireError::Truncated { what: "sealed frame", need: TAG_LEN, have });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SealedHeader =
        SealedHeader { sender: NodeId(7), nonce_prefix: [1, 2, 3, 4], counter: 1 };

    #[test]
    fn a_sealed_frame_splits_for_decryption_in_place() {
        let mut datagram = Vec::new();
        TunnelFrame::Sealed { header: HEADER, sealed: &[9; 20] }.encode(&mut datagram);
        let (header, sealed) = split_sealed(&mut datagram).unwrap();
        assert_eq!(header, HEADER);
        assert_eq!(header.nonce(), [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 1]);
        sealed.fill(0);
        assert_eq!(
            TunnelFrame::parse(&datagram),
            Ok(TunnelFrame::Sealed { header: HEADER, sealed: &[0; 20] })
        );
    }

    #[test]
    fn a_sealed_frame_without_room_for_its_tag_is_truncated() {
        let mut datagram = HEADER.encode().to_vec();
        datagram.extend_from_slice(&[0; TAG_LEN - 1]);
        assert!(matches!(TunnelFrame::parse(&datagram), Err(WireError::Truncated { .. })));
        assert!(matches!(split_sealed(&mut datagram), Err(WireError::Truncated { .. })));
    }

    #[test]
    fn key_exchanges_ignore_what_follows_them() {
        let auth = AuthFrame {
            node: NodeId(1),
            x25519_public: &[2; 32],
            ed25519_public: &[3; 32],
            signature: &[4; 64],
        };
        let mut datagram = auth.encode().to_vec();
        datagram.push(0xff);
        assert_eq!(TunnelFrame::parse(&datagram), Ok(TunnelFrame::Auth(auth)));
        assert!(is_tunnel(&datagram) && !is_tunnel(b"PIL") && !is_tunnel(&[1, 0, 0, 0, 0]));
    }
}

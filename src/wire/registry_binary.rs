//! The registry's binary protocol: the few frequent requests without JSON. No released Go daemon
//! speaks it; registries of the 1.18 line do, and so does ours.
//!
//! ```text
//! once, from the client: "PILT" 0x01
//! then, both ways:       length u32 (of type and payload) | type u8 | payload
//!
//! 0x01 heartbeat  node u32 | signature 64          0x81  unix time u64 | flags u8 (1: key expires)
//! 0x02 lookup     node u32                         0x82  see `LookupReply`
//! 0x03 resolve    node u32 | requester u32 | signature 64
//!                                                  0x83  see `ResolveReply`
//! 0x00 JSON text of any request                    0x00  JSON text of its response
//!                                                  0xFF  length u16 | error text
//! ```

use super::cursor::Reader;
use super::registry::{Base64, PublicKey, Signature};
use super::{NodeId, WireError};

const JSON: u8 = 0x00;
const HEARTBEAT: u8 = 0x01;
const LOOKUP: u8 = 0x02;
const RESOLVE: u8 = 0x03;
const HEARTBEAT_OK: u8 = 0x81;
const LOOKUP_OK: u8 = 0x82;
const RESOLVE_OK: u8 = 0x83;
const ERROR: u8 = 0xff;

/// Longest list that is decoded.
const MAX_LIST: usize = 1024;

/// A request, borrowed from the body of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinaryRequest<'a> {
    /// "I am still here."
    Heartbeat {
        /// Who.
        node: NodeId,
        /// Over the string of the JSON request.
        signature: Signature,
    },
    /// What the registry knows of a node.
    Lookup {
        /// Which.
        node: NodeId,
    },
    /// The endpoint of a node.
    Resolve {
        /// Which.
        node: NodeId,
        /// Who asks.
        requester: NodeId,
        /// Over the string of the JSON request.
        signature: Signature,
    },
    /// Any request, as JSON.
    Json(&'a [u8]),
}

impl<'a> BinaryRequest<'a> {
    /// Decodes the body of a frame: type and payload.
    ///
    /// # Errors
    /// Unknown type, or a payload shorter than its layout. What follows the layout is ignored.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("binary registry request", body);
        Ok(match r.u8()? {
            JSON => Self::Json(r.rest()),
            HEARTBEAT => Self::Heartbeat { node: NodeId(r.u32()?), signature: Base64(r.array()?) },
            LOOKUP => Self::Lookup { node: NodeId(r.u32()?) },
            RESOLVE => Self::Resolve {
                node: NodeId(r.u32()?),
                requester: NodeId(r.u32()?),
                signature: Base64(r.array()?),
            },
            _ => return Err(WireError::Invalid { what: "binary registry request type" }),
        })
    }

    /// Appends the body of a frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Json(text) => {
                out.push(JSON);
                out.extend_from_slice(text);
            }
            Self::Heartbeat { node, signature } => {
                out.push(HEARTBEAT);
                out.extend_from_slice(&node.0.to_be_bytes());
                out.extend_from_slice(&signature.0);
            }
            Self::Lookup { node } => {
                out.push(LOOKUP);
                out.extend_from_slice(&node.0.to_be_bytes());
            }
            Self::Resolve { node, requester, signature } => {
                out.push(RESOLVE);
                out.extend_from_slice(&node.0.to_be_bytes());
                out.extend_from_slice(&requester.0.to_be_bytes());
                out.extend_from_slice(&signature.0);
            }
        }
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinaryResponse {
    /// To a heartbeat.
    Heartbeat {
        /// The registry's clock.
        unix_time: u64,
        /// The node's key is about to expire.
        key_expiry_warning: bool,
    },
    /// To a lookup.
    Lookup(LookupReply),
    /// To a resolve.
    Resolve(ResolveReply),
    /// To a JSON request.
    Json(Vec<u8>),
    /// Why the request failed.
    Error(String),
}

/// ```text
/// node u32 | flags u8 (1 public, 2 task_exec) | reserved u32 | n u16, n x network u16
/// | len u8, public key | len u8, hostname | n u8, n x (len u8, tag) | len u16, real address
/// | len u8, external id
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of the layout above")]
pub struct LookupReply {
    pub node: NodeId,
    pub public: bool,
    pub task_exec: bool,
    pub networks: Vec<u16>,
    pub public_key: Option<PublicKey>,
    pub hostname: String,
    pub tags: Vec<String>,
    pub real_addr: String,
    pub external_id: String,
}

/// ```text
/// node u32 | len u16, address | n u16, n x (len u16, LAN address) | key age in days u32
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of the layout above")]
pub struct ResolveReply {
    pub node: NodeId,
    pub real_addr: String,
    pub lan_addrs: Vec<String>,
    /// 0xFFFFFFFF on the wire if unknown.
    pub key_age_days: Option<u32>,
}

impl BinaryResponse {
    /// Decodes the body of a frame: type and payload.
    ///
    /// # Errors
    /// Unknown type, a payload shorter than its layout, text that is not UTF-8, or a list longer
    /// than 1024 entries.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("binary registry response", body);
        Ok(match r.u8()? {
            JSON => Self::Json(r.rest().to_vec()),
            HEARTBEAT_OK => {
                Self::Heartbeat { unix_time: r.u64()?, key_expiry_warning: r.u8()? & 1 != 0 }
            }
            LOOKUP_OK => Self::Lookup(LookupReply::parse(&mut r)?),
            RESOLVE_OK => Self::Resolve(ResolveReply::parse(&mut r)?),
            ERROR => Self::Error(long_text(&mut r)?),
            _ => return Err(WireError::Invalid { what: "binary registry response type" }),
        })
    }

    /// Appends the body of a frame.
    ///
    /// # Errors
    /// A text or list is longer than its length field can say.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Json(text) => {
                out.push(JSON);
                out.extend_from_slice(text);
                Ok(())
            }
            Self::Heartbeat { unix_time, key_expiry_warning } => {
                out.push(HEARTBEAT_OK);
                out.extend_from_slice(&unix_time.to_be_bytes());
                out.push(u8::from(*key_expiry_warning));
                Ok(())
            }
            Self::Lookup(reply) => reply.encode(out),
            Self::Resolve(reply) => reply.encode(out),
            Self::Error(text) => {
                out.push(ERROR);
                put_long(out, text.as_bytes())
            }
        }
    }
}

impl LookupReply {
    fn parse(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let node = NodeId(r.u32()?);
        let flags = r.u8()?;
        r.u32()?;
        let networks = list(usize::from(r.u16()?), || r.u16())?;
        let key_len = usize::from(r.u8()?);
        let key = r.bytes(key_len)?;
        let public_key = match key {
            [] => None,
            key => Some(Base64(
                key.try_into().map_err(|_| WireError::Invalid { what: "public key length" })?,
            )),
        };
        let hostname = short_text(r)?;
        let tags = list(usize::from(r.u8()?), || short_text(r))?;
        Ok(Self {
            node,
            public: flags & 1 != 0,
            task_exec: flags & 2 != 0,
            networks,
            public_key,
            hostname,
            tags,
            real_addr: long_text(r)?,
            external_id: short_text(r)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(LOOKUP_OK);
        out.extend_from_slice(&self.node.0.to_be_bytes());
        out.push(u8::from(self.public) | u8::from(self.task_exec) << 1);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&len_u16(self.networks.len())?);
        for network in &self.networks {
            out.extend_from_slice(&network.to_be_bytes());
        }
        put_short(out, self.public_key.as_ref().map_or(&[], |key| &key.0))?;
        put_short(out, self.hostname.as_bytes())?;
        out.push(len_u8(self.tags.len())?);
        for tag in &self.tags {
            put_short(out, tag.as_bytes())?;
        }
        put_long(out, self.real_addr.as_bytes())?;
        put_short(out, self.external_id.as_bytes())
    }
}

impl ResolveReply {
    fn parse(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let node = NodeId(r.u32()?);
        let real_addr = long_text(r)?;
        let lan_addrs = list(usize::from(r.u16()?), || long_text(r))?;
        let age = r.u32()?;
        Ok(Self { node, real_addr, lan_addrs, key_age_days: (age != u32::MAX).then_some(age) })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(RESOLVE_OK);
        out.extend_from_slice(&self.node.0.to_be_bytes());
        put_long(out, self.real_addr.as_bytes())?;
        out.extend_from_slice(&len_u16(self.lan_addrs.len())?);
        for addr in &self.lan_addrs {
            put_long(out, addr.as_bytes())?;
        }
        out.extend_from_slice(&self.key_age_days.unwrap_or(u32::MAX).to_be_bytes());
        Ok(())
    }
}

/// `len` items; the vector grows as they are read, so a false length allocates nothing.
fn list<T>(
    len: usize,
    mut item: impl FnMut() -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    if len > MAX_LIST {
        return Err(WireError::TooLong { what: "registry list", len, limit: MAX_LIST });
    }
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(item()?);
    }
    Ok(items)
}

fn short_text(r: &mut Reader<'_>) -> Result<String, WireError> {
    let len = usize::from(r.u8()?);
    text(r.bytes(len)?)
}

fn long_text(r: &mut Reader<'_>) -> Result<String, WireError> {
    let len = usize::from(r.u16()?);
    text(r.bytes(len)?)
}

fn text(bytes: &[u8]) -> Result<String, WireError> {
    let text = str::from_utf8(bytes).map_err(|_| WireError::Invalid { what: "registry text" })?;
    Ok(text.to_owned())
}

fn len_u8(len: usize) -> Result<u8, WireError> {
    u8::try_from(len).map_err(|_| WireError::TooLong { what: "registry text", len, limit: 255 })
}

fn len_u16(len: usize) -> Result<[u8; 2], WireError> {
    u16::try_from(len).map(u16::to_be_bytes).map_err(|_| WireError::TooLong {
        what: "registry text",
        len,
        limit: 65_535,
    })
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), WireError> {
    out.push(len_u8(bytes.len())?);
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), WireError> {
    out.extend_from_slice(&len_u16(bytes.len())?);
    out.extend_from_slice(bytes);
    Ok(())
}

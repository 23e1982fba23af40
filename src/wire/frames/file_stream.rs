//! FILESTREAM: a file in pieces, resumable, inside data exchange frames of type 7.
//!
//! ```text
//! kind u8 | transfer id (16, first half of the file's SHA-256) | body
//!
//! 1 INIT      ->   size u64 | SHA-256 (32) | chunk size u32 | name length u16 | name
//! 5 INIT_ACK  <-   offset u64 to start from
//! 2 CHUNK     ->   offset u64 | data
//! 3 ACK       <-   offset u64 expected next
//! 4 DONE      ->   nothing
//! 6 COMPLETE  <-   status u8 (0: good) | message
//! 7 ABORT     <->  message
//! ```

use bytes::Bytes;

use super::data::{push_u16_prefixed, utf8};
use crate::wire::WireError;
use crate::wire::cursor::Reader;

/// The chunk size of release 1.18.
pub const CHUNK_SIZE: u32 = 49_152;
/// Chunks that release 1.18 sends beyond the last acknowledged one.
pub const WINDOW_CHUNKS: usize = 16;

const INIT: u8 = 1;
const CHUNK: u8 = 2;
const ACK: u8 = 3;
const DONE: u8 = 4;
const INIT_ACK: u8 = 5;
const COMPLETE: u8 = 6;
const ABORT: u8 = 7;

/// One step of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileStream {
    /// Which transfer: the first half of the file's SHA-256.
    pub transfer: [u8; 16],
    /// What happens.
    pub step: FileStep,
}

/// What happens in a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileStep {
    /// The sender announces a file.
    Init {
        /// Bytes of the file.
        size: u64,
        /// Its hash.
        sha256: [u8; 32],
        /// Bytes of each chunk but the last.
        chunk_size: u32,
        /// Its name as sent: see [`base_name`](super::data::base_name) before you use it.
        name: String,
    },
    /// The receiver is ready.
    InitAck {
        /// Where to start; more than 0 resumes.
        offset: u64,
    },
    /// A piece.
    Chunk {
        /// Where it belongs.
        offset: u64,
        /// Its bytes.
        data: Bytes,
    },
    /// The receiver has all bytes before `offset`.
    Ack {
        /// The offset expected next.
        offset: u64,
    },
    /// The sender has sent everything.
    Done,
    /// The receiver has checked size and hash.
    Complete {
        /// 0: stored.
        status: u8,
        /// Why not.
        message: String,
    },
    /// One side gives up.
    Abort {
        /// Why.
        message: String,
    },
}

impl FileStream {
    /// Decodes the payload of a data exchange frame of type 7. Messages that are not UTF-8 are
    /// repaired, since they are only for people to read.
    ///
    /// # Errors
    /// Truncated, of an unknown kind, or a file name that is not UTF-8.
    pub fn parse(payload: &Bytes) -> Result<Self, WireError> {
        let mut r = Reader::new("file stream", payload);
        let (kind, transfer) = (r.u8()?, r.array()?);
        let text = |r: Reader<'_>| String::from_utf8_lossy(r.rest()).into_owned();
        let step = match kind {
            INIT => {
                let (size, sha256, chunk_size) = (r.u64()?, r.array()?, r.u32()?);
                let len = usize::from(r.u16()?);
                FileStep::Init { size, sha256, chunk_size, name: utf8("file name", r.bytes(len)?)? }
            }
            CHUNK => FileStep::Chunk { offset: r.u64()?, data: payload.slice_ref(r.rest()) },
            ACK => FileStep::Ack { offset: r.u64()? },
            DONE => FileStep::Done,
            INIT_ACK => FileStep::InitAck { offset: r.u64()? },
            COMPLETE => FileStep::Complete { status: r.u8()?, message: text(r) },
            ABORT => FileStep::Abort { message: text(r) },
            _ => return Err(WireError::Invalid { what: "file stream kind" }),
        };
        Ok(Self { transfer, step })
    }

    /// Appends the payload without its last part, which it returns.
    pub(super) fn encode_head(&self, out: &mut Vec<u8>) -> Result<Bytes, WireError> {
        out.push(self.step.kind());
        out.extend_from_slice(&self.transfer);
        match &self.step {
            FileStep::Init { size, sha256, chunk_size, name } => {
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(sha256);
                out.extend_from_slice(&chunk_size.to_be_bytes());
                push_u16_prefixed("file name", name.as_bytes(), usize::from(u16::MAX), out)?;
            }
            FileStep::InitAck { offset } | FileStep::Ack { offset } => {
                out.extend_from_slice(&offset.to_be_bytes());
            }
            FileStep::Chunk { offset, data } => {
                out.extend_from_slice(&offset.to_be_bytes());
                return Ok(data.clone());
            }
            FileStep::Done => {}
            FileStep::Complete { status, message } => {
                out.push(*status);
                out.extend_from_slice(message.as_bytes());
            }
            FileStep::Abort { message } => out.extend_from_slice(message.as_bytes()),
        }
        Ok(Bytes::new())
    }
}

impl FileStep {
    fn kind(&self) -> u8 {
        match self {
            Self::Init { .. } => INIT,
            Self::Chunk { .. } => CHUNK,
            Self::Ack { .. } => ACK,
            Self::Done => DONE,
            Self::InitAck { .. } => INIT_ACK,
            Self::Complete { .. } => COMPLETE,
            Self::Abort { .. } => ABORT,
        }
    }
}

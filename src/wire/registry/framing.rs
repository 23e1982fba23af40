//! Cutting length-prefixed frames out of a byte stream, the same for JSON and binary.

use serde::Serialize;

use crate::wire::WireError;
use crate::wire::cursor::Reader;

/// Most bytes of a frame's body, in either direction; the limit of the February 2026 registry.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// What a client of the binary protocol sends first; no JSON length begins like this.
pub const BINARY_PREAMBLE: [u8; 5] = *b"PILT\x01";

/// The first frame of `buffer`: its body, and how many bytes it takes with its length. `None`
/// if more bytes are needed.
///
/// # Errors
/// The length exceeds [`MAX_FRAME_BYTES`]; it is refused before any of the body is awaited.
pub fn split_frame(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, WireError> {
    let mut r = Reader::new("registry frame", buffer);
    let Ok(len) = r.u32() else { return Ok(None) };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MAX_FRAME_BYTES {
        return Err(WireError::TooLong { what: "registry frame", len, limit: MAX_FRAME_BYTES });
    }
    Ok(r.bytes(len).ok().map(|body| (body, 4 + len)))
}

/// Appends `message` as a JSON frame.
///
/// # Errors
/// It is longer than [`MAX_FRAME_BYTES`]; `out` is as before.
pub fn encode_json(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), WireError> {
    encode_with(out, |out| {
        // Only maps with keys that are no strings fail to serialise, and no message has any.
        serde_json::to_writer(out, message)
            .map_err(|_| WireError::Invalid { what: "registry message" })
    })
}

/// Appends a frame whose body `write` appends.
///
/// # Errors
/// That of `write`, or a body longer than [`MAX_FRAME_BYTES`]; `out` is then as before.
pub fn encode_with(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let result = write(out).and_then(|()| {
        let len = out.len() - start - 4;
        match u32::try_from(len) {
            Ok(prefix) if len <= MAX_FRAME_BYTES => Ok(prefix),
            _ => Err(WireError::TooLong { what: "registry frame", len, limit: MAX_FRAME_BYTES }),
        }
    });
    match result {
        Ok(len) => {
            if let Some(prefix) = out.get_mut(start..start + 4) {
                prefix.copy_from_slice(&len.to_be_bytes());
            }
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

//! What two of our nodes tell each other in the payload of SYN and SYN-ACK.
//!
//! Release 1.18.0 ignores a payload on both, so this is how a node learns, stream by stream and
//! without a round trip, that its peer is one of ours: half close, and a window in bytes.
//!
//! ```text
//! "PAO1" | n x ( type u8 | length u8 | value )       unknown types are skipped
//!   1  window shift u8 (0..=14)  the window field of this sender counts 2^shift bytes
//!   2  largest payload u16       bytes of a segment that this sender accepts
//!   3  features u32              bit 0: half close; bit 1: answers probes of the path's MTU
//! ```

use super::WireError;
use super::cursor::Reader;

const MAGIC: [u8; 4] = *b"PAO1";
const HALF_CLOSE: u32 = 1;
const PATH_PROBES: u32 = 2;

/// Options of one side of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamOptions {
    /// The sender's window field counts `1 << window_shift` bytes.
    pub window_shift: u8,
    /// Most payload bytes that the sender accepts in a segment.
    pub max_payload: u16,
    /// A FIN of the sender ends only its own direction.
    pub half_close: bool,
    /// The sender answers probes of the path's MTU.
    pub path_probes: bool,
}

impl StreamOptions {
    /// Decodes the payload of a SYN or SYN-ACK; `None` means a peer without options (a Go node).
    ///
    /// # Errors
    /// The magic is there, but what follows is malformed.
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, WireError> {
        let Some(rest) = payload.strip_prefix(&MAGIC) else { return Ok(None) };
        let mut options =
            Self { window_shift: 0, max_payload: 1152, half_close: false, path_probes: false };
        let mut r = Reader::new("stream options", rest);
        while r.remaining() > 0 {
            let (kind, len) = (r.u8()?, r.u8()?);
            let value = r.bytes(usize::from(len))?;
            let mut v = Reader::new("stream option", value);
            match kind {
                1 => options.window_shift = v.u8()?.min(14),
                2 => options.max_payload = v.u16()?.max(1),
                3 => {
                    let features = v.u32()?;
                    options.half_close = features & HALF_CLOSE != 0;
                    options.path_probes = features & PATH_PROBES != 0;
                }
                _ => {}
            }
        }
        Ok(Some(options))
    }

    /// Appends the encoded options.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[1, 1, self.window_shift]);
        out.extend_from_slice(&[2, 2]);
        out.extend_from_slice(&self.max_payload.to_be_bytes());
        out.extend_from_slice(&[3, 4]);
        let features = [(self.half_close, HALF_CLOSE), (self.path_probes, PATH_PROBES)];
        let bits: u32 = features.iter().map(|(has, bit)| if *has { *bit } else { 0 }).sum();
        out.extend_from_slice(&bits.to_be_bytes());
    }
}

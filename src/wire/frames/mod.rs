//! Frames inside streams. A stream has no message boundaries, so each of these services puts
//! lengths before its content, and a frame may come in any number of pieces.
//!
//! The decoders share one shape: `feed` received chunks, then take frames until there are none.
//! A frame that lies within one chunk is not copied, its payload is a slice of that chunk. A length is
//! compared with its limit as soon as it is known; memory grows with what has arrived, never with
//! what was announced. After an error the stream has no frame boundary any more: the decoder
//! repeats the error, and the only thing to do is to close.

pub mod data;
pub mod data_reply;
pub mod event;
pub mod file_stream;
mod gather;
pub mod message;
pub mod message_head;

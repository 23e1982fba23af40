//! What a client of the one TCP port speaks, by its first byte, and who serves it then.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::state::State;
use super::{compat, connection};

/// A TLS handshake must be over within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Room made for the first read.
const READ_BYTES: usize = 8 * 1024;

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    /// A handshake record.
    Tls,
    /// `GET`; nothing else is of use here.
    Http,
    /// A frame's length, of which the limit makes the first byte 0, or the `P` of the binary
    /// protocol. Anything else is told so there.
    Registry,
}

const fn speech(first: u8) -> Speech {
    match first {
        0x16 => Speech::Tls,
        b'G' | b'H' => Speech::Http,
        _ => Speech::Registry,
    }
}

/// Serves a client until it leaves.
///
/// # Errors
/// The connection failed, or the client broke the protocol.
pub(super) async fn serve(
    state: Arc<State>,
    stream: TcpStream,
    from: SocketAddr,
) -> io::Result<()> {
    let mut first = [0];
    let Ok(peeked) = timeout(connection::IDLE, stream.peek(&mut first)).await else {
        return Ok(());
    };
    match (peeked?, &state.certificate) {
        (0, _) => Ok(()),
        (_, Some(certificate)) if speech(first[0]) == Speech::Tls => {
            let stream = timeout(HANDSHAKE, certificate.acceptor.accept(stream)).await??;
            serve_plain(state, stream, from).await
        }
        _ => serve_plain(state, stream, from).await,
    }
}

/// The same inside TLS, or without it.
async fn serve_plain<S>(state: Arc<State>, mut stream: S, from: SocketAddr) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = Vec::with_capacity(READ_BYTES);
    match timeout(connection::IDLE, stream.read_buf(&mut read)).await {
        Ok(read) => read?,
        Err(_) => return Ok(()),
    };
    match read.first().copied().map(speech) {
        None => Ok(()),
        Some(Speech::Http) => compat::serve(state, stream, from, read).await,
        Some(_) => connection::serve(state, stream, from, read).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::registry::framing::{BINARY_PREAMBLE, MAX_FRAME_BYTES};

    #[test]
    fn no_first_byte_means_two_things() {
        let largest = u32::try_from(MAX_FRAME_BYTES).unwrap().to_be_bytes();
        for byte in 0..=255 {
            let expected = match byte {
                0x16 => Speech::Tls,
                b'G' | b'H' => Speech::Http,
                _ => Speech::Registry,
            };
            assert_eq!(speech(byte), expected);
        }
        for byte in [largest[0], 0, BINARY_PREAMBLE[0]] {
            assert_eq!(speech(byte), Speech::Registry);
        }
    }
}

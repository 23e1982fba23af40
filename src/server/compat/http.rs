//! As much of HTTP as an upgrade to WebSocket needs (RFC 6455, section 4.2).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::wire::compat::{PATH, SUBPROTOCOL};

/// A request must be complete within this.
const REQUEST: Duration = Duration::from_secs(10);
/// A request is never longer.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;

/// What to do about a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// More bytes are needed.
    Incomplete,
    /// Upgrade, with this `Sec-WebSocket-Accept`; the request has this many bytes.
    Upgrade { accept: String, len: usize },
    /// Answer with this status and text.
    Answer(&'static str, &'static str),
}

/// Answers a request; if it was for an upgrade, returns what came after it.
pub(super) async fn upgrade<S>(stream: &mut S, mut read: Vec<u8>) -> io::Result<Option<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        loop {
            match judge(&read) {
                Verdict::Incomplete => {}
                verdict => return Ok::<_, io::Error>(verdict),
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    match timeout(REQUEST, reading).await?? {
        Verdict::Upgrade { accept, len } => {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
            );
            timeout(REQUEST, stream.write_all(answer.as_bytes())).await??;
            Ok(Some(read.split_off(len)))
        }
        Verdict::Answer(status, text) => {
            let answer = format!(
                "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: close\r\n\
                 Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            timeout(REQUEST, stream.write_all(answer.as_bytes())).await??;
            timeout(REQUEST, stream.shutdown()).await??;
            Ok(None)
        }
        Verdict::Incomplete => Ok(None),
    }
}

fn judge(read: &[u8]) -> Verdict {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(read) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if read.len() < MAX_REQUEST_BYTES => {
            return Verdict::Incomplete;
        }
        Ok(httparse::Status::Partial) => {
            return Verdict::Answer("431 Request Header Fields Too Large", "too long\n");
        }
        Err(_) => return Verdict::Answer("400 Bad Request", "this is no HTTP request\n"),
    };
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path == "/healthz" {
        return Verdict::Answer("200 OK", "ok\n");
    }
    let has = |name: &str, wanted: &str| {
        values(request.headers, name)
            .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(wanted)))
    };
    let asks = request.method == Some("GET")
        && has("connection", "upgrade")
        && has("upgrade", "websocket")
        && has("sec-websocket-version", "13");
    if path != PATH || !asks {
        let text = "this is a Pilot beacon: connect by WebSocket to /v1/compat\n";
        return Verdict::Answer("426 Upgrade Required", text);
    }
    if !has("sec-websocket-protocol", SUBPROTOCOL) {
        return Verdict::Answer("400 Bad Request", "the subprotocol must be pilot.v1\n");
    }
    match values(request.headers, "sec-websocket-key").next() {
        Some(key) => Verdict::Upgrade { accept: derive_accept_key(key.trim().as_bytes()), len },
        None => Verdict::Answer("400 Bad Request", "Sec-WebSocket-Key is missing\n"),
    }
}

fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &str = "GET /v1/compat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pilot.v1\r\n\r\n";

    #[test]
    fn an_upgrade_is_accepted_with_the_key_of_rfc_6455() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        let upgrade = Verdict::Upgrade { accept, len: REQUEST.len() };
        assert_eq!(judge(format!("{REQUEST}more").as_bytes()), upgrade);
        for cut in 0..REQUEST.len() {
            assert_eq!(judge(&REQUEST.as_bytes()[..cut]), Verdict::Incomplete);
        }
    }

    #[test]
    fn everything_else_is_told_what_this_is() {
        let status = |request: &str| match judge(request.as_bytes()) {
            Verdict::Answer(status, _) => status.split(' ').next().unwrap().to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "426");
        assert_eq!(status("GET /v1/compat HTTP/1.1\r\nHost: h\r\n\r\n"), "426");
        assert_eq!(status("GET /healthz HTTP/1.1\r\n\r\n"), "200");
        assert_eq!(status(&REQUEST.replace("pilot.v1", "pilot.v2")), "400");
        assert_eq!(status(&REQUEST.replace("-Key", "-Kay")), "400");
        assert_eq!(status("GET\x00 nonsense\r\n\r\n"), "400");
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(9_000))), "431");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = judge(&bytes);
            let _ = judge(&[b"GET / HTTP/1.1\r\n".as_slice(), &bytes].concat());
        }
    }
}

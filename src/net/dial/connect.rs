//! A tunnel through an HTTP proxy (`CONNECT`, RFC 9110, section 9.3.6).

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::proxy::{Proxies, ProxyError, ProxyUrl};
use super::{BoxedIo, DialError, authority, tcp};
use crate::net::tls::{self, Trust};

/// A proxy's answer is never longer.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 96;

/// What a proxy answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// More bytes are needed.
    Incomplete,
    /// The tunnel stands.
    Open,
    /// Credentials are needed, or others.
    Credentials,
    /// Something else, with these words.
    Refused(String),
    /// Not HTTP.
    Nonsense(&'static str),
}

/// Opens a tunnel to `host`, which the proxy looks up. Credentials that are refused are fetched
/// anew, once.
pub(super) async fn through(
    proxies: &Proxies,
    host: &str,
    port: u16,
) -> Result<(BoxedIo, Option<SocketAddr>), DialError> {
    let mut refused: Option<ProxyUrl> = None;
    loop {
        let Some(proxy) = proxies.current(refused.is_some()).await? else {
            return Err(DialError::Tcp("there is no proxy".into()));
        };
        let is_old = refused.as_ref().is_some_and(|old| *old == proxy);
        let (name, advice) = (proxy.to_string(), proxies.advice(&proxy));
        let credentials = || ProxyError::Credentials { proxy: name.clone(), advice };
        if is_old {
            return Err(credentials().into());
        }
        let (mut io, local_addr) = reach(&proxy).await?;
        let target = authority(host, port);
        let answer = ask(&mut io, &proxy, &target).await;
        match answer {
            Answer::Open => return Ok((io, local_addr)),
            Answer::Credentials if refused.is_none() => refused = Some(proxy),
            Answer::Credentials => return Err(credentials().into()),
            Answer::Refused(answer) => {
                return Err(ProxyError::Refused { proxy: name, target, answer }.into());
            }
            Answer::Nonsense(reason) => {
                return Err(ProxyError::Nonsense { proxy: name, reason: reason.into() }.into());
            }
            Answer::Incomplete => {
                let reason = "it closed the connection".into();
                return Err(ProxyError::Nonsense { proxy: name, reason }.into());
            }
        }
    }
}

async fn reach(proxy: &ProxyUrl) -> Result<(BoxedIo, Option<SocketAddr>), DialError> {
    let stream = tcp(&proxy.host, proxy.port).await.map_err(|error| ProxyError::Unreachable {
        proxy: proxy.to_string(),
        reason: error.to_string(),
    })?;
    let local_addr = stream.local_addr().ok();
    if proxy.is_tls {
        let stream = tls::connect(Trust::default(), &proxy.host, stream).await?;
        return Ok((Box::new(stream), local_addr));
    }
    Ok((Box::new(stream), local_addr))
}

async fn ask(io: &mut BoxedIo, proxy: &ProxyUrl, target: &str) -> Answer {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(credentials) = &proxy.credentials {
        let credentials = STANDARD.encode(credentials);
        request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    request.push_str("\r\n");
    if io.write_all(request.as_bytes()).await.is_err() || io.flush().await.is_err() {
        return Answer::Incomplete;
    }
    // Byte by byte costs a handful of system calls, and takes nothing of the tunnel's.
    let mut read = Vec::new();
    loop {
        match judge(&read) {
            Answer::Incomplete => {}
            answer => return answer,
        }
        match io.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return Answer::Incomplete,
        }
    }
}

fn judge(read: &[u8]) -> Answer {
    // The head ends with an empty line; before that there is nothing to judge.
    if !read.ends_with(b"\n") || !(read.ends_with(b"\r\n\r\n") || read.ends_with(b"\n\n")) {
        return if read.len() < MAX_ANSWER_BYTES {
            Answer::Incomplete
        } else {
            Answer::Nonsense("its answer is too long")
        };
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(read) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Answer::Incomplete,
        Err(_) => return Answer::Nonsense("that is not HTTP"),
    }
    match response.code {
        Some(200..=299) => Answer::Open,
        Some(407) => Answer::Credentials,
        code => {
            let words: String =
                response.reason.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
            Answer::Refused(format!("{} {words}", code.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let judge = |text: &str| judge(text.as_bytes());
        assert_eq!(judge("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"), Answer::Open);
        assert_eq!(
            judge("HTTP/1.0 407 No\r\nProxy-Authenticate: Basic\r\n\r\n"),
            Answer::Credentials
        );
        assert_eq!(
            judge("HTTP/1.1 403 Forbidden\r\n\r\n"),
            Answer::Refused("403 Forbidden".into())
        );
        assert_eq!(judge("SSH-2.0-OpenSSH\r\n\r\n"), Answer::Nonsense("that is not HTTP"));
        assert_eq!(judge("HTTP/1.1 200 OK\r\n"), Answer::Incomplete);
        assert_eq!(judge(&"x".repeat(20_000)), Answer::Nonsense("its answer is too long"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = judge(&bytes);
            bytes.extend_from_slice(b"\r\n\r\n");
            let _ = judge(&bytes);
            let _ = judge(&[b"HTTP/1.1 ".as_slice(), &bytes].concat());
        }
    }
}

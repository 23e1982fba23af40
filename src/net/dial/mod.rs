//! Reaching a server by the ways there are: straight, over TLS, through a proxy.
//!
//! Networks that block ports drop packets rather than refuse them, so ways are tried side by side,
//! each a moment after the one before it (as RFC 8305 does with addresses). The first that works
//! is taken.

mod command;
mod connect;
mod proxy;
mod server;

pub use command::CommandError;
pub use proxy::{Proxies, ProxyError, ProxyUrl};
pub use server::{CompatUrl, Server};

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::tls::{self, TlsError, Trust};

/// A way begins this long after the one before it, unless that has failed.
const STAGGER: Duration = Duration::from_millis(400);

/// A connection of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Io for T {}

/// The same, without its type.
pub type BoxedIo = Box<dyn Io>;

/// One way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Speak TLS, with a certificate believed like this.
    pub tls: Option<Trust>,
    /// Go through the proxy, if there is one for this host.
    pub proxied: bool,
    /// Nobody said that the server is there: see that it is, before this way is taken.
    pub is_guess: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))?;
        f.write_str(if self.tls.is_some() { " (TLS)" } else { "" })
    }
}

/// `host:port`, with brackets where the host is an IPv6 address.
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Splits `host:port`; takes brackets off.
#[must_use]
pub fn split_authority(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let bare = if is_bracketed { host.get(1..host.len() - 1)? } else { host };
    let is_sane = !bare.is_empty() && (is_bracketed || !bare.contains(':'));
    is_sane.then_some((bare.to_owned(), port.parse().ok()?))
}

/// Why a way does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No TCP connection.
    #[error("{0}")]
    Tcp(String),
    /// Not within the time.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy does not let us through.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Another thing than expected is there.
    #[error("{0}")]
    Stranger(String),
}

/// A connection, and what is known of it.
pub struct Dialed {
    /// To the server itself: a proxy or TLS in between is dealt with.
    pub io: BoxedIo,
    /// Our end of the TCP connection.
    pub local_addr: Option<SocketAddr>,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Goes one way, within `limit`.
///
/// # Errors
/// Why it does not work.
pub async fn dial(way: &Way, proxies: &Proxies, limit: Duration) -> Result<Dialed, DialError> {
    let dialing = async {
        let (io, local_addr) = if way.proxied && proxies.applies_to(&way.host, way.port) {
            connect::through(proxies, &way.host, way.port).await?
        } else {
            let stream = tcp(&way.host, way.port).await?;
            let local_addr = stream.local_addr().ok();
            (Box::new(stream) as BoxedIo, local_addr)
        };
        let io = match way.tls {
            Some(trust) => Box::new(tls::connect(trust, &way.host, io).await?) as BoxedIo,
            None => io,
        };
        Ok(Dialed { io, local_addr })
    };
    timeout(limit, dialing).await.map_err(|_| DialError::TimedOut(limit))?
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| DialError::Tcp(error.to_string()))?;
    // Requests are small and somebody waits for each.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Tries all ways, each a moment after the one before it; the first success is taken, and the
/// others are given up. If all fail, the error is that of the first.
///
/// # Errors
/// That of the first way.
pub async fn race<T, E, F>(ways: Vec<Way>, attempt: impl Fn(Way) -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<DialError>,
{
    use futures_util::stream::{FuturesUnordered, StreamExt};
    let mut ways = ways.into_iter();
    let mut running = FuturesUnordered::new();
    let mut first_error = None;
    let mut number = 0;
    loop {
        let is_last = match ways.next() {
            Some(way) => {
                let (attempt, own) = (attempt(way), number);
                running.push(async move { (own, attempt.await) });
                number += 1;
                false
            }
            None if running.is_empty() => {
                return Err(first_error.map_or_else(
                    || DialError::Tcp("there is no way to it".into()).into(),
                    |(_, error)| error,
                ));
            }
            None => true,
        };
        let stagger = sleep(STAGGER);
        tokio::select! {
            Some((own, result)) = running.next() => match result {
                Ok(reached) => return Ok(reached),
                Err(error) => {
                    if first_error.as_ref().is_none_or(|(other, _)| own < *other) {
                        first_error = Some((own, error));
                    }
                }
            },
            () = stagger, if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(port: u16) -> Way {
        Way { host: "h".into(), port, tls: None, proxied: false, is_guess: false }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_way_that_works_is_taken_and_a_failed_one_costs_no_wait() {
        let begun = tokio::time::Instant::now();
        let reached = race(vec![way(1), way(2), way(3)], |way| async move {
            match way.port {
                1 => sleep(Duration::from_secs(60)).await,
                2 => return Err(DialError::Tcp("refused".into())),
                _ => {}
            }
            Ok(way.port)
        });
        assert_eq!(reached.await, Ok(3));
        assert_eq!(begun.elapsed(), STAGGER);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_is_that_of_the_first_way() {
        let result: Result<(), DialError> = race(vec![way(1), way(2)], |way| async move {
            sleep(Duration::from_secs(u64::from(3 - way.port))).await;
            Err(DialError::Tcp(way.port.to_string()))
        })
        .await;
        assert_eq!(result, Err(DialError::Tcp("1".into())));
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for text in ["h:1", "[::1]:7470", "127.0.0.1:80"] {
            let (host, port) = split_authority(text).unwrap();
            assert_eq!(authority(&host, port), text);
        }
        for bad in ["", "h", ":1", "::1:80", "[::1]", "h:x", "h:70000", "[]:1"] {
            assert_eq!(split_authority(bad), None, "{bad}");
        }
    }
}

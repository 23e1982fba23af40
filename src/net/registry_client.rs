//! A registry's client: one connection, many calls in flight, every wait bounded.
//!
//! A task owns the connection. Calls are written as they come and answered in order, as the
//! protocol has no request ids. The connection is made by the first call and made again by the
//! first call after it broke, with growing pauses while that fails, drawn at random: the clients
//! of a registry that comes back must not all meet it at once. A call that was in flight when a
//! connection broke is repeated once: registries close idle connections after minutes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::dial::{DialError, Dialed, Server, Way, dial, race};
use super::jitter::jitter;
use crate::wire::registry::framing::split_frame;
use crate::wire::registry::{ErrorCode, Request, Response};

mod connection;
#[cfg(test)]
mod tests;

use connection::Connection;

/// Calls that may wait for the task; more wait in [`RegistryClient::call`], within its timeout.
const QUEUE: usize = 256;

/// How long a [`RegistryClient`] waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryTimeouts {
    /// For name lookup and TCP connection together. Default 3 s.
    pub connect: Duration,
    /// For one answer on a live connection, after which the connection is given up. Default 5 s.
    pub reply: Duration,
    /// For a call as a whole, with queueing, reconnection and repetition. Default 10 s.
    pub call: Duration,
    /// The pause after a failed connection attempt, doubled with each failure; what is really
    /// waited is between half of it and all. Default 50 ms.
    pub min_backoff: Duration,
    /// The longest such pause. Default 1 s: who waits notices within it that the registry is back.
    pub max_backoff: Duration,
}

impl Default for RegistryTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            reply: Duration::from_secs(5),
            call: Duration::from_secs(10),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
        }
    }
}

/// Why a call to a registry failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection could be made.
    #[error("registry {addr} is unreachable: {reason}; is a rendezvous running there?")]
    Unreachable {
        /// The registry, as configured.
        addr: String,
        /// What the operating system said.
        reason: String,
    },
    /// The registry did not answer in time.
    #[error("registry {addr} did not answer `{request}` within {after:?}")]
    Hung {
        /// The registry, as configured.
        addr: String,
        /// The type of the request.
        request: &'static str,
        /// How long the call waited.
        after: Duration,
    },
    /// The connection broke while the call was in flight, twice.
    #[error("registry {addr} closed the connection instead of answering `{request}`: {reason}")]
    Disconnected {
        /// The registry, as configured.
        addr: String,
        /// The type of the request.
        request: &'static str,
        /// How it broke.
        reason: String,
    },
    /// What answered is no registry, or a broken one.
    #[error("{addr} answered nonsense to `{request}`: {reason}; is it a Pilot registry?")]
    Nonsense {
        /// The registry, as configured.
        addr: String,
        /// The type of the request.
        request: &'static str,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The registry said no.
    #[error("registry refused `{request}`: {text}")]
    Refused {
        /// The type of the request.
        request: &'static str,
        /// What kind of no; [`ErrorCode::Other`] from a Go registry.
        code: ErrorCode,
        /// Its words.
        text: String,
    },
    /// The request exceeds the protocol's limit.
    #[error("request `{request}` is too long: {reason}")]
    TooLong {
        /// The type of the request.
        request: &'static str,
        /// How long, and what is allowed.
        reason: String,
    },
    /// The client was closed.
    #[error("the registry client is closed")]
    Closed,
}

/// A handle to a registry; clones share the connection. The task ends with the last handle.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    jobs: mpsc::Sender<Job>,
    link: watch::Receiver<Option<SocketAddr>>,
    reconnects: Arc<watch::Sender<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addr: String,
    server: Arc<Server>,
    timeouts: RegistryTimeouts,
}

/// A call on its way.
#[derive(Debug)]
struct Job {
    request: Request,
    reply: oneshot::Sender<Result<Response, RegistryError>>,
    deadline: Instant,
    is_repeated: bool,
}

impl Job {
    /// Ends the call; nobody may be waiting any more.
    fn finish(self, result: Result<Response, RegistryError>) {
        let _ = self.reply.send(result);
    }
}

impl RegistryClient {
    /// A client of the registry at `addr` (`host:port`), which connects with the first call.
    /// Needs a tokio runtime around it.
    #[must_use]
    pub fn new(addr: impl Into<String>, timeouts: RegistryTimeouts) -> Self {
        Self::of(Arc::new(Server::plain(addr)), timeouts)
    }

    /// The same by all ways that lead to `server`.
    #[must_use]
    pub fn of(server: Arc<Server>, timeouts: RegistryTimeouts) -> Self {
        let addr = server.name().to_owned();
        let shared = Arc::new(Shared { addr, server, timeouts });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (link_changed, link) = watch::channel(None);
        let (reconnects, to_reconnect) = watch::channel(());
        tokio::spawn(run(shared.clone(), queue, link_changed, to_reconnect));
        Self { jobs, link, reconnects: Arc::new(reconnects), shared }
    }

    /// Makes the connection ahead of the first call, which then does not wait for it. Follow
    /// [`link`](Self::link) to know when it stands.
    pub fn prepare(&self) {
        // A call that nobody waits for makes the connection, and is not sent.
        let (reply, _) = oneshot::channel();
        let deadline = Instant::now() + self.shared.timeouts.call;
        let request = Request::BeaconList {};
        let _ = self.jobs.try_send(Job { request, reply, deadline, is_repeated: false });
    }

    /// Gives the connection up, or the attempt at one, and does not pause before the next: the
    /// network has changed, and what went over the old one would be missed only after seconds.
    pub fn reconnect(&self) {
        self.reconnects.send_replace(());
    }

    /// As [`Self::new`], but proves that a registry is there by asking it for its beacons.
    ///
    /// # Errors
    /// Those of [`Self::call`]; a refusal is proof enough.
    pub async fn connect(
        addr: impl Into<String>,
        timeouts: RegistryTimeouts,
    ) -> Result<Self, RegistryError> {
        let client = Self::new(addr, timeouts);
        match client.call(Request::BeaconList {}).await {
            Ok(_) | Err(RegistryError::Refused { .. }) => Ok(client),
            Err(error) => Err(error),
        }
    }

    /// Sends `request` and waits for its response, which is of the request's kind. Calls made
    /// concurrently share the connection and do not wait for each other.
    ///
    /// # Errors
    /// Every [`RegistryError`]; the wait never exceeds [`RegistryTimeouts::call`].
    ///
    /// # Cancel safety
    /// A dropped call may or may not reach the registry; other calls are not disturbed.
    pub async fn call(&self, request: Request) -> Result<Response, RegistryError> {
        let kind = request.kind();
        let timeouts = &self.shared.timeouts;
        let deadline = Instant::now() + timeouts.call;
        let (reply, answer) = oneshot::channel();
        let job = Job { request, reply, deadline, is_repeated: false };
        let exchange = async {
            self.jobs.send(job).await.map_err(|_| RegistryError::Closed)?;
            answer.await.map_err(|_| RegistryError::Closed)?
        };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(Response::Error { error: text, code })) => {
                Err(RegistryError::Refused { request: kind, code, text })
            }
            Ok(result) => result,
            Err(_) => Err(self.shared.hung(kind, timeouts.call)),
        }
    }

    /// The registry's address, as configured.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.shared.addr
    }

    /// Which registry it is, and the ways to it.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.shared.server
    }

    /// The local end of the connection, while there is one. Await a change of it to learn at
    /// once that the registry went away.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.link.clone()
    }
}

impl Shared {
    fn hung(&self, request: &'static str, after: Duration) -> RegistryError {
        RegistryError::Hung { addr: self.addr.clone(), request, after }
    }

    async fn connect(&self) -> Result<Dialed, RegistryError> {
        let limit = self.timeouts.connect;
        let attempt = |way: Way| async move {
            let mut dialed = dial(&way, self.server.proxies(), limit).await?;
            if way.is_guess {
                timeout_at(Instant::now() + limit, probe(&mut dialed))
                    .await
                    .map_err(|_| DialError::TimedOut(limit))??;
            }
            Ok::<_, DialError>(dialed)
        };
        race(self.server.registry_ways(), attempt).await.map_err(|error| {
            RegistryError::Unreachable { addr: self.addr.clone(), reason: error.to_string() }
        })
    }
}

/// Sees that a registry is there, for port 443 may well be a web server's.
async fn probe(dialed: &mut Dialed) -> Result<(), DialError> {
    let failed = |reason: &dyn std::fmt::Display| DialError::Stranger(reason.to_string());
    let mut frame = Vec::new();
    Request::BeaconList {}.encode(&mut frame).map_err(|error| failed(&error))?;
    dialed.io.write_all(&frame).await.map_err(|error| failed(&error))?;
    dialed.io.flush().await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    loop {
        if let Some((body, _)) = split_frame(&answer).map_err(|error| failed(&error))? {
            Response::parse(body).map_err(|error| failed(&error))?;
            return Ok(());
        }
        if dialed.io.read_buf(&mut answer).await.map_err(|error| failed(&error))? == 0 {
            return Err(failed(&"no registry is there"));
        }
    }
}

/// Owns the connection until the last handle is gone.
async fn run(
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Job>,
    link: watch::Sender<Option<SocketAddr>>,
    mut reconnects: watch::Receiver<()>,
) {
    let mut waiting = VecDeque::new();
    let mut backoff = shared.timeouts.min_backoff;
    let mut not_before = Instant::now();
    loop {
        if waiting.is_empty() {
            let Some(job) = queue.recv().await else { return };
            waiting.push_back(job);
        }
        tokio::select! {
            () = sleep_until(not_before) => {}
            _ = reconnects.changed() => {}
        }
        reconnects.mark_unchanged();
        let connected = tokio::select! {
            connected = shared.connect() => connected,
            Ok(()) = reconnects.changed() => {
                not_before = Instant::now();
                continue;
            }
        };
        match connected {
            Ok(Dialed { io, local_addr }) => {
                link.send_replace(local_addr);
                let mut connection = Connection::new(&shared, io);
                let is_open = tokio::select! {
                    is_open = connection.serve(&mut waiting, &mut queue) => Some(is_open),
                    Ok(()) = reconnects.changed() => None,
                };
                link.send_replace(None);
                match is_open {
                    Some(true) => {}
                    Some(false) => return,
                    None => {
                        connection.abandon(&mut waiting);
                        not_before = Instant::now();
                        continue;
                    }
                }
                if connection.has_answered() {
                    backoff = shared.timeouts.min_backoff;
                }
            }
            Err(error) => {
                // All who wait now would meet the same error, one connect timeout after the other.
                while let Ok(job) = queue.try_recv() {
                    waiting.push_back(job);
                }
                for job in waiting.drain(..) {
                    job.finish(Err(error.clone()));
                }
            }
        }
        not_before = Instant::now() + backoff / 2 + jitter(backoff / 2);
        backoff = (backoff * 2).min(shared.timeouts.max_backoff);
    }
}

//! One client of the registry: frames in, responses out, in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::state::State;
use super::writer::Ticket;
use crate::wire::WireError;
use crate::wire::registry::framing::{BINARY_PREAMBLE, encode_with, split_frame};
use crate::wire::registry::{ErrorCode, NodeInfo, Request, Resolved, Response};
use crate::wire::registry_binary::{BinaryRequest, BinaryResponse, LookupReply, ResolveReply};

/// A connection without requests is closed after this; both Go registries do the same.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// A frame that was begun must be there after this.
const FRAME: Duration = Duration::from_secs(20);
/// A client must take its responses within this.
const WRITE: Duration = Duration::from_secs(20);
/// Room made for each read.
const READ_BYTES: usize = 8 * 1024;
/// Responses are sent when this many bytes wait, at the latest.
const FLUSH_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Json,
    Binary,
}

/// Serves the client until it leaves or is too slow. `incoming` is what was read of it already.
///
/// # Errors
/// The connection failed, or the client broke the protocol.
pub(super) async fn serve<S>(
    state: Arc<State>,
    mut stream: S,
    from: SocketAddr,
    mut incoming: Vec<u8>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut dialect = None;
    let mut deadline = Instant::now() + IDLE;
    let mut is_read = !incoming.is_empty();
    loop {
        incoming.reserve(READ_BYTES);
        let was_empty = is_read || incoming.is_empty();
        if !std::mem::take(&mut is_read) {
            match timeout_at(deadline, stream.read_buf(&mut incoming)).await {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(read) => read?,
            };
        }
        dialect = dialect.or_else(|| detect(&mut incoming));
        let before = incoming.len();
        if let Some(dialect) = dialect {
            answer_all(&state, dialect, from, &mut incoming, &mut stream).await?;
        }
        // A frame's time begins with its first byte, however slowly the others follow.
        if incoming.is_empty() {
            deadline = Instant::now() + IDLE;
        } else if was_empty || incoming.len() < before {
            deadline = Instant::now() + FRAME;
        }
    }
}

/// Which protocol the client speaks, once its first bytes show it; the preamble is taken off.
fn detect(incoming: &mut Vec<u8>) -> Option<Dialect> {
    if incoming.starts_with(&BINARY_PREAMBLE) {
        incoming.drain(..BINARY_PREAMBLE.len());
        return Some(Dialect::Binary);
    }
    (!BINARY_PREAMBLE.starts_with(incoming)).then_some(Dialect::Json)
}

/// Answers the complete frames in `incoming` and takes them out of it.
async fn answer_all(
    state: &State,
    dialect: Dialect,
    from: SocketAddr,
    incoming: &mut Vec<u8>,
    stream: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let (mut outgoing, mut consumed) = (Vec::new(), 0);
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    loop {
        let rest = incoming.get(consumed..).unwrap_or_default();
        let Some((body, len)) = split_frame(rest).map_err(invalid)? else { break };
        consumed += len;
        let (kind, answer) = match dialect {
            Dialect::Json => (BinaryKind::Json, answer_json(state, from, body)),
            Dialect::Binary => answer_binary(state, from, body),
        };
        let (mut response, ticket) = answer;
        if let Some(ticket) = ticket {
            flush(stream, &mut outgoing).await?;
            if let Err(reason) = stored(ticket).await {
                response = Response::error(ErrorCode::Storage, format!("cannot store: {reason}"));
            }
        }
        encode(dialect, kind, response, &mut outgoing).map_err(invalid)?;
        if outgoing.len() >= FLUSH_BYTES {
            flush(stream, &mut outgoing).await?;
        }
    }
    incoming.drain(..consumed);
    flush(stream, &mut outgoing).await
}

/// What the client of the binary protocol asked, and so how it wants the answer.
#[derive(Debug, Clone, Copy)]
enum BinaryKind {
    Json,
    Own,
}

type Answer = (Response, Option<Ticket>);

fn answer_json(state: &State, from: SocketAddr, body: &[u8]) -> Answer {
    match Request::parse(body) {
        Ok(request) => state.answer(from, request),
        Err(error) => {
            (Response::error(ErrorCode::Invalid, format!("invalid request: {error}")), None)
        }
    }
}

fn answer_binary(state: &State, from: SocketAddr, body: &[u8]) -> (BinaryKind, Answer) {
    let request = match BinaryRequest::parse(body) {
        Ok(BinaryRequest::Json(json)) => return (BinaryKind::Json, answer_json(state, from, json)),
        Ok(BinaryRequest::Heartbeat { node, signature }) => {
            Request::Heartbeat { node_id: node, signature: Some(signature) }
        }
        Ok(BinaryRequest::Lookup { node }) => Request::Lookup { node_id: node },
        Ok(BinaryRequest::Resolve { node, requester, signature }) => {
            Request::Resolve { node_id: node, requester_id: requester, signature: Some(signature) }
        }
        Err(error) => {
            let text = format!("invalid request: {error}");
            return (BinaryKind::Own, (Response::error(ErrorCode::Invalid, text), None));
        }
    };
    (BinaryKind::Own, state.answer(from, request))
}

fn encode(
    dialect: Dialect,
    kind: BinaryKind,
    response: Response,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    if dialect == Dialect::Json {
        return response.encode(out);
    }
    let response = match (kind, response) {
        (BinaryKind::Own, Response::HeartbeatOk { time, key_expiry_warning }) => {
            BinaryResponse::Heartbeat { unix_time: time, key_expiry_warning }
        }
        (BinaryKind::Own, Response::LookupOk(info)) => BinaryResponse::Lookup(lookup_reply(info)),
        (BinaryKind::Own, Response::ResolveOk(resolved)) => {
            BinaryResponse::Resolve(resolve_reply(resolved))
        }
        (BinaryKind::Own, Response::Error { error, .. }) => BinaryResponse::Error(error),
        (_, response) => {
            let json = serde_json::to_vec(&response)
                .map_err(|_| WireError::Invalid { what: "registry message" })?;
            BinaryResponse::Json(json)
        }
    };
    encode_with(out, |out| response.encode(out))
}

fn lookup_reply(info: NodeInfo) -> LookupReply {
    LookupReply {
        node: info.node_id,
        public: info.public,
        task_exec: info.task_exec,
        networks: info.networks,
        public_key: info.public_key,
        hostname: info.hostname,
        tags: info.tags,
        real_addr: info.real_addr,
        external_id: String::new(),
    }
}

fn resolve_reply(resolved: Resolved) -> ResolveReply {
    ResolveReply {
        node: resolved.node_id,
        real_addr: resolved.real_addr,
        lan_addrs: resolved.lan_addrs,
        key_age_days: resolved.key_age_days.and_then(|days| u32::try_from(days).ok()),
    }
}

async fn stored(ticket: Ticket) -> Result<(), String> {
    ticket.await.unwrap_or_else(|_| Err("the server is shutting down".into()))
}

async fn flush(stream: &mut (impl AsyncWrite + Unpin), outgoing: &mut Vec<u8>) -> io::Result<()> {
    if !outgoing.is_empty() {
        timeout(WRITE, stream.write_all(outgoing)).await??;
        outgoing.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::server::{Rendezvous, RendezvousConfig};

    /// A connection under virtual time, and the client's end of it.
    async fn connection() -> (Rendezvous, DuplexStream, JoinHandle<io::Result<()>>) {
        let listen = "127.0.0.1:0".parse().unwrap();
        let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap();
        let (client, server) = duplex(1024);
        let serving = tokio::spawn(serve(rendezvous.state(), server, listen, Vec::new()));
        (rendezvous, client, serving)
    }

    fn request() -> Vec<u8> {
        let mut frame = Vec::new();
        Request::BeaconList {}.encode(&mut frame).unwrap();
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_five_minutes_a_busy_one_is_not() {
        let (_rendezvous, mut client, serving) = connection().await;
        for _ in 0..10 {
            sleep(IDLE - Duration::from_secs(1)).await;
            client.write_all(&request()).await.unwrap();
            assert_ne!(client.read(&mut [0; 512]).await.unwrap(), 0);
        }
        let since = Instant::now();
        serving.await.unwrap().unwrap();
        assert!(since.elapsed() >= IDLE && since.elapsed() < IDLE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_trickles_in_is_not_awaited_for_long() {
        let (_rendezvous, mut client, serving) = connection().await;
        let since = Instant::now();
        let trickle = async {
            for byte in [0, 0, 4, 0].into_iter().chain(std::iter::repeat(b' ')) {
                if client.write_all(&[byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        };
        trickle.await;
        serving.await.unwrap().unwrap();
        assert!(since.elapsed() <= FRAME + Duration::from_secs(2), "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_its_answers_is_dropped() {
        let (_rendezvous, mut client, serving) = connection().await;
        let flood = async { while client.write_all(&request()).await.is_ok() {} };
        flood.await;
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

//! Messages to Go nodes: one connection, one frame, one answer.

use std::fmt::Write as _;
use std::sync::Arc;

use super::STEP;
use super::link::{Budget, Link};
use crate::node::core::Shared;
use crate::node::error::NodeError;
use crate::node::resolver::Resolver;
use crate::node::types::{Payload, PayloadKind, PeerRef};
use crate::proto::path::TrafficClass;
use crate::wire::frames::data::{BINARY, DataFrame, JSON, MAX_PAYLOAD, TAGGED, TEXT, Tag};
use crate::wire::frames::data_reply::DataReply;
use crate::wire::ports;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// Room for the header of a tagged frame.
const TAG_ROOM: usize = 2_048;

/// Sends a message; returns when the peer says that it has stored it. The caller bounds the time.
///
/// It goes out tagged, as the tool of release 1.18 sends every message, so that the peer can
/// answer it by its id. The headers `message_id` and `reply_to` become the tag; data exchange has
/// no room for others. When the connection breaks before the answer, because the peer restarted,
/// the message goes out once more under the same id, of which a peer keeps one copy.
pub(in crate::node) async fn send(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    peer: &PeerRef,
    payload: &Payload,
) -> Result<(), NodeError> {
    let (size, limit) = (payload.data.len(), MAX_PAYLOAD - TAG_ROOM);
    if size > limit {
        return Err(NodeError::TooLarge { what: "message to a Go node", size, limit });
    }
    let tag = tag(payload)?;
    match send_once(shared, resolver, peer, payload, tag.clone()).await {
        Err(NodeError::StreamReset(_)) => send_once(shared, resolver, peer, payload, tag).await,
        result => result,
    }
}

async fn send_once(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    peer: &PeerRef,
    payload: &Payload,
    tag: Tag,
) -> Result<(), NodeError> {
    let mut link = open(shared, resolver, payload.class, peer).await?;
    let data = payload.data.clone();
    let (inner, plain) = match payload.kind {
        PayloadKind::Bytes => (BINARY, DataFrame::Binary(data.clone())),
        PayloadKind::Text => (TEXT, DataFrame::Text(data.clone())),
        PayloadKind::Json => (JSON, DataFrame::Json(data.clone())),
    };
    let tagged = DataFrame::Tagged { tag, inner, payload: data };
    let mut answer = exchange(&mut link, peer, &tagged).await?;
    if matches!(answer, DataReply::Unknown { kind: TAGGED, .. }) {
        answer = exchange(&mut link, peer, &plain).await?;
    }
    link.stream().close();
    check(peer, answer, &DataReply::to(&tagged))
}

/// Opens a connection for sending.
pub(super) async fn open(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    class: TrafficClass,
    peer: &PeerRef,
) -> Result<Link, NodeError> {
    let port = ports::DATA_EXCHANGE;
    let stream = crate::node::open(shared, resolver, class, peer, port, true).await?;
    Ok(Link::new(stream, MAX_ANSWER, &Budget::new(usize::MAX)))
}

/// Sends a frame and returns the answer to it.
pub(super) async fn exchange(
    link: &mut Link,
    peer: &PeerRef,
    frame: &DataFrame,
) -> Result<DataReply, NodeError> {
    link.send(frame, STEP).await?;
    match link.receive(STEP).await? {
        Some(DataFrame::Text(text)) => parse(peer, &text),
        Some(other) => Err(NodeError::Protocol(format!(
            "{peer} answered with a frame of type {}",
            other.kind()
        ))),
        None => Err(closed(peer)),
    }
}

pub(super) fn parse(peer: &PeerRef, text: &[u8]) -> Result<DataReply, NodeError> {
    let text = String::from_utf8_lossy(text);
    DataReply::parse(&text).map_err(|_| {
        let start: String = text.chars().take(80).collect();
        NodeError::Protocol(format!("{peer} answered {start:?} instead of an acknowledgement"))
    })
}

/// Whether the answer is the one that was expected, byte count included.
pub(super) fn check(
    peer: &PeerRef,
    answer: DataReply,
    expected: &DataReply,
) -> Result<(), NodeError> {
    match answer {
        answer if answer == *expected => Ok(()),
        DataReply::Failed { reason, .. } => Err(refused(peer, &reason)),
        other => Err(NodeError::Protocol(format!("{peer} answered {other} instead of {expected}"))),
    }
}

/// The peer understood and said no.
pub(super) fn refused(peer: &PeerRef, reason: &str) -> NodeError {
    let reason = format!("it could not store it: {reason}");
    NodeError::RequestFailed { peer: peer.to_string(), reason }
}

pub(super) fn closed(peer: &PeerRef) -> NodeError {
    NodeError::StreamReset(format!("{peer} closed the connection instead of answering"))
}

fn tag(payload: &Payload) -> Result<Tag, NodeError> {
    let header = |name| {
        let found = payload.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let id = match header("message_id") {
        Some(id) => id,
        None => random_id()?,
    };
    Tag::new(id, header("reply_to")).map_err(|_| {
        NodeError::Invalid(
            "the headers message_id and reply_to must have 1 to 128 characters out of letters, \
             digits and - _ . :"
                .to_owned(),
        )
    })
}

fn random_id() -> Result<String, NodeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| NodeError::Io(format!("the system has no randomness: {error}")))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

//! The serving side: frames into the inbox, answers back.

use std::time::Duration;

use bytes::Bytes;

use super::STEP;
use super::link::{Budget, Link};
use super::transfer::Transfers;
use crate::net::clock;
use crate::node::error::NodeError;
use crate::node::services::inbox::Inbox;
use crate::node::services::sessions::{self, Limits};
use crate::node::stream::{Listener, NodeStream};
use crate::node::types::{Payload, PayloadKind};
use crate::wire::frames::data::{self, DataFrame, Tag};
use crate::wire::frames::data_reply::{DataReply, TraceReply};

/// A session without a byte for this long is closed, as release 1.18 does.
const IDLE: Duration = Duration::from_secs(120);
const SESSIONS: Limits = Limits { total: 256, per_peer: 32 };
/// Bytes of incomplete frames in all sessions.
const BUDGET: usize = 256 << 20;

/// Serves data exchange until the node closes.
pub(in crate::node::services) async fn serve(listener: Listener, inbox: Inbox) {
    let budget = Budget::new(BUDGET);
    sessions::serve(listener, SESSIONS, |stream| session(stream, inbox.clone(), budget.clone()))
        .await;
}

async fn session(stream: NodeStream, inbox: Inbox, budget: Budget) -> Result<(), NodeError> {
    let sender = stream.peer();
    let mut link = Link::new(stream, inbox.max_payload(), &budget);
    let mut transfers = Transfers::new(inbox.clone(), sender);
    let intake = Intake { inbox, sender };
    // A malformed frame ends the session, as it does at release 1.18: dropping the link closes.
    while let Some(frame) = link.receive(IDLE).await? {
        let received_at = clock::unix_time();
        let answer = match frame {
            DataFrame::FileStream(step) => transfers.handle(step).await?,
            frame => Some(intake.answer(frame, received_at).await?),
        };
        if let Some(answer) = answer {
            link.send(&answer, STEP).await?;
        }
    }
    link.stream().close();
    Ok(())
}

/// Puts what one peer sends into the inbox.
struct Intake {
    inbox: Inbox,
    sender: crate::wire::Addr,
}

impl Intake {
    /// Takes a frame in; only then there is an answer. Fails when the node closes.
    async fn answer(
        &self,
        frame: DataFrame,
        received_at: Duration,
    ) -> Result<DataFrame, NodeError> {
        let good = DataReply::to(&frame);
        let (traced, taken) = match frame {
            DataFrame::Trace { inner, sent_at_ns, payload } => {
                (Some(sent_at_ns), self.take(inner, payload, Vec::new()).await)
            }
            DataFrame::Tagged { tag, inner, payload } => {
                (None, self.take(inner, payload, headers(&tag)).await)
            }
            DataFrame::File { name, data } => (None, self.take_file(name, data, Vec::new()).await),
            DataFrame::Text(payload) => (None, self.take(data::TEXT, payload, Vec::new()).await),
            DataFrame::Binary(payload) => {
                (None, self.take(data::BINARY, payload, Vec::new()).await)
            }
            DataFrame::Json(payload) => (None, self.take(data::JSON, payload, Vec::new()).await),
            DataFrame::Unknown { kind, payload } => {
                (None, self.take(kind, payload, Vec::new()).await)
            }
            // The caller keeps these apart.
            DataFrame::FileStream(_) => (None, Ok(())),
        };
        let reply = match taken {
            Ok(()) => good,
            Err(Refused { kind, reason }) => DataReply::failed(kind, reason),
        };
        let Some(sent_at_ns) = traced else { return Ok(reply.to_frame()) };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let written = nanos(clock::unix_time());
        let reply = TraceReply {
            ack_sent_at_ns: written,
            inbox_written_at_ns: written,
            inner_ack: reply.to_string(),
            received_at_ns: nanos(received_at),
            sent_at_ns,
        };
        Ok(reply.to_frame())
    }

    async fn take(
        &self,
        kind: u32,
        payload: Bytes,
        headers: Vec<(String, String)>,
    ) -> Result<(), Refused> {
        let kind_of_text = |kind| match std::str::from_utf8(&payload) {
            Ok(_) => kind,
            // Senders are not checked: what is no text arrives as bytes.
            Err(_) => PayloadKind::Bytes,
        };
        let payload_kind = match kind {
            data::TEXT => kind_of_text(PayloadKind::Text),
            data::JSON => kind_of_text(PayloadKind::Json),
            data::BINARY => PayloadKind::Bytes,
            data::FILE => {
                let Ok(DataFrame::File { name, data }) = DataFrame::parse(kind, payload) else {
                    return Err(Refused::new(kind, "malformed file frame"));
                };
                return self.take_file(name, data, headers).await;
            }
            kind => return Err(Refused::new(kind, format!("unsupported frame type {kind}"))),
        };
        let payload = Payload { kind: payload_kind, data: payload, headers, ..Payload::default() };
        let delivered = self.inbox.deliver(self.sender, payload, None).await;
        delivered.map_err(|error| Refused::new(kind, error))
    }

    async fn take_file(
        &self,
        name: String,
        data: Bytes,
        headers: Vec<(String, String)>,
    ) -> Result<(), Refused> {
        if name.is_empty() {
            // Both generations acknowledge it and store nothing.
            return Ok(());
        }
        let stored = self.inbox.store(name, data).await;
        let file = stored.map_err(|error| Refused::new(data::FILE, error))?;
        let delivered = self.inbox.deliver_file(self.sender, file, headers).await;
        delivered.map_err(|error| Refused::new(data::FILE, error))
    }
}

/// Why a frame was not taken in, in words for its sender.
struct Refused {
    kind: u32,
    reason: String,
}

impl Refused {
    fn new(kind: u32, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

fn headers(tag: &Tag) -> Vec<(String, String)> {
    let reply_to = tag.reply_to().map(|id| ("reply_to".to_owned(), id.to_owned()));
    let id = ("message_id".to_owned(), tag.message_id().to_owned());
    std::iter::once(id).chain(reply_to).collect()
}

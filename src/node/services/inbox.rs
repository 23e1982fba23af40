//! Where messages and files of data exchange land.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::file_store::{self, FileStore, QUOTA};
use crate::node::config::NodeConfig;
use crate::node::core::Shared;
use crate::node::resolver::Resolver;
use crate::node::types::{Message, Payload};
use crate::wire::Addr;
use crate::wire::frames::data::MAX_PAYLOAD;

/// How long a sender waits for room before it is told that there is none. While it waits nothing
/// more is read from it, so its stream's window closes.
const ROOM: Duration = Duration::from_secs(30);

/// A file that was stored: the name its sender meant, and where it is.
pub(super) type StoredFile = (String, PathBuf);

/// See the [module](self). Clones are the same inbox. Errors are words for the sender.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    files: Arc<FileStore>,
    next_id: Arc<AtomicU64>,
    limit: usize,
    max_payload: usize,
}

impl Inbox {
    pub(super) fn new(
        shared: Arc<Shared>,
        resolver: Arc<Resolver>,
        config: &NodeConfig,
        dir: PathBuf,
    ) -> Self {
        Self {
            shared,
            resolver,
            files: FileStore::new(dir, QUOTA),
            next_id: Arc::default(),
            limit: config.inbox_limit,
            max_payload: config.max_message.min(MAX_PAYLOAD),
        }
    }

    /// Largest payload of a frame.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload
    }

    pub(super) fn files(&self) -> &Arc<FileStore> {
        &self.files
    }

    /// Puts a message where the application fetches it. Waits while there is no room.
    pub(super) async fn deliver(
        &self,
        sender: Addr,
        payload: Payload,
        file: Option<StoredFile>,
    ) -> Result<(), String> {
        let mut message = Some(Message {
            sender,
            sender_hostname: self.resolver.hostname_of(sender.node),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            payload,
            file,
        });
        let delivering = std::future::poll_fn(|cx| {
            self.shared.act(|core, _| {
                if core.is_closed {
                    return Poll::Ready(Err("the node is closing".to_owned()));
                }
                match core.inbox.offer(&mut message, self.limit) {
                    true => Poll::Ready(Ok(())),
                    false => {
                        let room = &mut core.inbox.room;
                        if !room.iter().any(|waker| waker.will_wake(cx.waker())) {
                            room.push(cx.waker().clone());
                        }
                        Poll::Pending
                    }
                }
            })
        });
        match tokio::time::timeout(ROOM, delivering).await {
            Ok(result) => result,
            Err(_) => Err("the inbox is full; its application does not read it".to_owned()),
        }
    }

    /// Stores a file that came in one piece.
    pub(super) async fn store(&self, name: String, data: Bytes) -> Result<StoredFile, String> {
        let files = self.files.clone();
        blocking(move || {
            let mut incoming = files.begin(&name, data.len() as u64)?;
            incoming.write(&data)?;
            incoming.finish()
        })
        .await
    }

    /// Announces a file that was stored; if that fails, it is gone.
    pub(super) async fn deliver_file(
        &self,
        sender: Addr,
        file: StoredFile,
        headers: Vec<(String, String)>,
    ) -> Result<(), String> {
        let path = file.1.clone();
        let payload = Payload { headers, ..Payload::default() };
        let delivered = self.deliver(sender, payload, Some(file)).await;
        if delivered.is_err() {
            let _ = spawn_blocking(move || file_store::discard(&path)).await;
        }
        delivered
    }
}

/// Does what blocks off the event loop.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, file_store::StoreError> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the node is closing".to_owned()),
    }
}

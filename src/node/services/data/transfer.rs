//! A file that comes in pieces (FILESTREAM): one at a time in a session.

use sha2::{Digest, Sha256};

use crate::node::error::NodeError;
use crate::node::services::file_store::{Incoming, StoreError};
use crate::node::services::inbox::{Inbox, blocking};
use crate::wire::Addr;
use crate::wire::frames::data::DataFrame;
use crate::wire::frames::file_stream::{FileStep, FileStream};

/// Status of a COMPLETE whose file was not stored.
const FAILED: u8 = 1;

/// The transfers of one session.
#[derive(Debug)]
pub(super) struct Transfers {
    inbox: Inbox,
    sender: Addr,
    active: Option<Transfer>,
}

#[derive(Debug)]
struct Transfer {
    id: [u8; 16],
    size: u64,
    sha256: [u8; 32],
    received: u64,
    /// `None` while a piece is being written.
    sink: Option<Sink>,
}

#[derive(Debug)]
struct Sink {
    file: Incoming,
    hash: Sha256,
}

impl Transfers {
    pub(super) fn new(inbox: Inbox, sender: Addr) -> Self {
        Self { inbox, sender, active: None }
    }

    /// Takes a step and returns the answer, if it has one. What breaks the rules of the dialogue is
    /// answered with ABORT and ends the transfer; what only a receiver sends ends the session.
    pub(super) async fn handle(
        &mut self,
        step: FileStream,
    ) -> Result<Option<DataFrame>, NodeError> {
        let transfer = step.transfer;
        let answer = match step.step {
            FileStep::Init { size, sha256, name, .. } => {
                self.begin(transfer, size, sha256, name).await
            }
            FileStep::Chunk { offset, data } => self.chunk(transfer, offset, data).await,
            FileStep::Done => self.done(transfer).await,
            FileStep::Abort { .. } => {
                self.active = None;
                return Ok(None);
            }
            FileStep::InitAck { .. } | FileStep::Ack { .. } | FileStep::Complete { .. } => {
                return Err(NodeError::Protocol("file stream: a receiver's step".to_owned()));
            }
        };
        let step = answer.unwrap_or_else(|message| {
            self.active = None;
            FileStep::Abort { message }
        });
        Ok(Some(DataFrame::FileStream(FileStream { transfer, step })))
    }

    async fn begin(
        &mut self,
        id: [u8; 16],
        size: u64,
        sha256: [u8; 32],
        name: String,
    ) -> Result<FileStep, String> {
        // A sender that begins anew has given up what was before.
        self.active = None;
        if !sha256.starts_with(&id) {
            return Err("the transfer id does not belong to the hash".to_owned());
        }
        let files = self.inbox.files().clone();
        let file = blocking(move || files.begin(&name, size)).await?;
        let sink = Some(Sink { file, hash: Sha256::new() });
        self.active = Some(Transfer { id, size, sha256, received: 0, sink });
        Ok(FileStep::InitAck { offset: 0 })
    }

    async fn chunk(
        &mut self,
        id: [u8; 16],
        offset: u64,
        data: bytes::Bytes,
    ) -> Result<FileStep, String> {
        let transfer = active(&mut self.active, id)?;
        if offset > transfer.received {
            return Err(format!("a piece is missing at {}", transfer.received));
        }
        if offset < transfer.received {
            // Sent again although we have it: say so.
            return Ok(FileStep::Ack { offset: transfer.received });
        }
        let after = offset.saturating_add(data.len() as u64);
        if after > transfer.size {
            return Err(StoreError::TooLong.to_string());
        }
        let Some(mut sink) = transfer.sink.take() else { return Err("not begun".to_owned()) };
        let sink = blocking(move || {
            sink.hash.update(&data);
            sink.file.write(&data)?;
            Ok(sink)
        })
        .await?;
        transfer.sink = Some(sink);
        transfer.received = after;
        Ok(FileStep::Ack { offset: after })
    }

    async fn done(&mut self, id: [u8; 16]) -> Result<FileStep, String> {
        active(&mut self.active, id)?;
        let Some(Transfer { size, sha256, received, sink: Some(sink), .. }) = self.active.take()
        else {
            return Err("not begun".to_owned());
        };
        let failed = |message| Ok(FileStep::Complete { status: FAILED, message });
        if received != size {
            return failed(format!("{received} bytes arrived, {size} were announced"));
        }
        if <[u8; 32]>::from(sink.hash.finalize()) != sha256 {
            return failed("the content does not have the announced hash".to_owned());
        }
        let stored = blocking(move || sink.file.finish()).await;
        let delivered = match stored {
            Ok(file) => self.inbox.deliver_file(self.sender, file, Vec::new()).await,
            Err(error) => Err(error),
        };
        match delivered {
            Ok(()) => Ok(FileStep::Complete { status: 0, message: String::new() }),
            Err(message) => failed(message),
        }
    }
}

fn active(active: &mut Option<Transfer>, id: [u8; 16]) -> Result<&mut Transfer, String> {
    let transfer = active.as_mut().filter(|transfer| transfer.id == id);
    transfer.ok_or_else(|| "there is no such transfer; begin with INIT".to_owned())
}

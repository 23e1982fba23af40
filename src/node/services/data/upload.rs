//! Files to a peer: in one frame when small, else in pieces.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::STEP;
use super::client::{check, closed, exchange, open, parse, refused};
use super::link::Link;
use crate::node::core::Shared;
use crate::node::error::NodeError;
use crate::node::resolver::Resolver;
use crate::node::types::PeerRef;
use crate::proto::path::TrafficClass;
use crate::wire::frames::data::{DataFrame, FILE_STREAM, MAX_FILE_NAME};
use crate::wire::frames::data_reply::DataReply;
use crate::wire::frames::file_stream::{CHUNK_SIZE, FileStep, FileStream, WINDOW_CHUNKS};

/// A file of at most this size goes in one frame, which saves a round trip.
const WHOLE: u64 = 256 << 10;
/// The most that a peer without FILESTREAM takes.
const MAX_WHOLE: u64 = 16 << 20;
/// Pieces for nodes of ours. Larger ones keep a fast link busy with the same window.
const NATIVE_CHUNK: u32 = 512 << 10;
/// A Go node without FILESTREAM may stay silent; release 1.18 waits as long before it falls back.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes hashed at once.
const HASH_CHUNK: usize = 1 << 20;

/// Sends a file; returns when the peer has stored and checked it. The caller bounds the time.
pub(in crate::node) async fn send_file(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    peer: &PeerRef,
    path: &Path,
) -> Result<(), NodeError> {
    let source = Source::open(path).await?;
    let is_native = resolver.resolve(peer).await?.is_native;
    if source.size <= WHOLE {
        return send_whole(shared, resolver, peer, source).await;
    }
    let (source, sha256) = source.hash().await?;
    let chunk_size = if is_native { NATIVE_CHUNK } else { CHUNK_SIZE };
    let mut link = open(shared, resolver, TrafficClass::Bulk, peer).await?;
    let transfer = first_half(&sha256);
    let init = FileStep::Init { size: source.size, sha256, chunk_size, name: source.name.clone() };
    send_step(&link, transfer, init).await?;
    let patience = if is_native { STEP } else { SILENCE };
    match link.receive(patience).await {
        Ok(Some(DataFrame::FileStream(FileStream {
            step: FileStep::InitAck { offset }, ..
        }))) => {
            let upload = Upload { link, peer, transfer, chunk_size };
            upload.run(source, offset).await
        }
        Ok(Some(DataFrame::FileStream(other))) => Err(unexpected(peer, other.step)),
        Ok(Some(DataFrame::Text(text))) => {
            let answer = parse(peer, &text)?;
            if !matches!(answer, DataReply::Unknown { kind: FILE_STREAM, .. }) {
                return check(peer, answer, &DataReply::Unknown { kind: FILE_STREAM, bytes: 0 });
            }
            link.stream().close();
            send_whole(shared, resolver, peer, source).await
        }
        Ok(Some(other)) => Err(NodeError::Protocol(format!(
            "{peer} answered with a frame of type {}",
            other.kind()
        ))),
        Ok(None) => Err(closed(peer)),
        Err(NodeError::Timeout { .. }) if !is_native => {
            link.stream().close();
            send_whole(shared, resolver, peer, source).await
        }
        Err(error) => Err(error),
    }
}

async fn send_whole(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    peer: &PeerRef,
    source: Source,
) -> Result<(), NodeError> {
    if source.size > MAX_WHOLE {
        return Err(NodeError::Unsupported(format!(
            "{peer} does not take files in pieces, and {} of {} bytes is too large for one",
            source.name, source.size
        )));
    }
    let name = source.name.clone();
    let (_, data) = source.read(0, usize::try_from(MAX_WHOLE).unwrap_or(usize::MAX)).await?;
    let mut link = open(shared, resolver, TrafficClass::Bulk, peer).await?;
    let frame = DataFrame::File { name, data };
    let answer = exchange(&mut link, peer, &frame).await?;
    link.stream().close();
    check(peer, answer, &DataReply::to(&frame))
}

/// A transfer that the receiver has agreed to.
struct Upload<'a> {
    link: Link,
    peer: &'a PeerRef,
    transfer: [u8; 16],
    chunk_size: u32,
}

impl Upload<'_> {
    async fn run(mut self, mut source: Source, start: u64) -> Result<(), NodeError> {
        let size = source.size;
        if start > size {
            let text = format!("{} wants to resume after the end of the file", self.peer);
            return Err(NodeError::Protocol(text));
        }
        let window = u64::from(self.chunk_size) * WINDOW_CHUNKS as u64;
        let (mut sent, mut acknowledged) = (start, start);
        while acknowledged < size {
            while sent < size && sent - acknowledged < window {
                let (back, data) = source.read(sent, self.chunk_size as usize).await?;
                source = back;
                if data.is_empty() {
                    return Err(NodeError::Io(format!("{} shrank while it was sent", source.name)));
                }
                let after = sent + data.len() as u64;
                self.send(FileStep::Chunk { offset: sent, data }).await?;
                sent = after;
            }
            match self.receive().await? {
                FileStep::Ack { offset } if offset <= sent => {
                    acknowledged = acknowledged.max(offset);
                }
                other => return Err(unexpected(self.peer, other)),
            }
        }
        self.send(FileStep::Done).await?;
        loop {
            match self.receive().await? {
                FileStep::Complete { status: 0, .. } => break,
                // An acknowledgement that came twice.
                FileStep::Ack { .. } => {}
                other => return Err(unexpected(self.peer, other)),
            }
        }
        self.link.stream().close();
        Ok(())
    }

    async fn send(&self, step: FileStep) -> Result<(), NodeError> {
        send_step(&self.link, self.transfer, step).await
    }

    async fn receive(&mut self) -> Result<FileStep, NodeError> {
        match self.link.receive(STEP).await? {
            Some(DataFrame::FileStream(answer)) => Ok(answer.step),
            Some(DataFrame::Text(text)) => Err(refused(self.peer, &String::from_utf8_lossy(&text))),
            Some(other) => {
                let kind = other.kind();
                let text = format!("{} answered with a frame of type {kind}", self.peer);
                Err(NodeError::Protocol(text))
            }
            None => Err(closed(self.peer)),
        }
    }
}

async fn send_step(link: &Link, transfer: [u8; 16], step: FileStep) -> Result<(), NodeError> {
    link.send(&DataFrame::FileStream(FileStream { transfer, step }), STEP).await
}

fn unexpected(peer: &PeerRef, step: FileStep) -> NodeError {
    match step {
        FileStep::Abort { message } | FileStep::Complete { message, .. } => refused(peer, &message),
        other => NodeError::Protocol(format!("{peer} answered {other:?} out of turn")),
    }
}

fn first_half(sha256: &[u8; 32]) -> [u8; 16] {
    sha256.first_chunk().copied().unwrap_or_default()
}

/// The file to send. Each operation runs off the event loop and hands the file back.
#[derive(Debug)]
struct Source {
    file: File,
    name: String,
    size: u64,
}

impl Source {
    async fn open(path: &Path) -> Result<Self, NodeError> {
        let text = path.display().to_string();
        let invalid = |why: &str| NodeError::Invalid(format!("{text} cannot be sent: {why}"));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| invalid("its name is missing or not UTF-8"))?.to_owned();
        if name.len() > MAX_FILE_NAME {
            return Err(invalid("its name is longer than 255 bytes"));
        }
        let path = path.to_owned();
        let opened = off_loop(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        let (file, metadata) = opened.await.map_err(|error| match error {
            NodeError::Io(reason) => NodeError::Io(format!("cannot read {text}: {reason}")),
            other => other,
        })?;
        if !metadata.is_file() {
            return Err(invalid("it is no regular file"));
        }
        Ok(Self { file, name, size: metadata.len() })
    }

    async fn hash(mut self) -> Result<(Self, [u8; 32]), NodeError> {
        off_loop(move || {
            let mut hash = Sha256::new();
            let mut buffer = vec![0; HASH_CHUNK];
            loop {
                match self.file.read(&mut buffer) {
                    Ok(0) => return Ok((self, hash.finalize().into())),
                    Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// At most `max` bytes from `offset`, fewer only at the end.
    async fn read(mut self, offset: u64, max: usize) -> Result<(Self, Bytes), NodeError> {
        off_loop(move || {
            let mut data = Vec::new();
            self.file.seek(SeekFrom::Start(offset))?;
            (&self.file).take(max as u64).read_to_end(&mut data)?;
            Ok((self, data.into()))
        })
        .await
    }
}

async fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, NodeError> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| NodeError::Io(error.to_string())),
        Err(_) => Err(NodeError::Closed),
    }
}

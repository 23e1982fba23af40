//! Echo (port 7): sends back what it receives, until the peer has finished.

use std::future::poll_fn;

use tokio::task::JoinSet;

use crate::node::error::NodeError;
use crate::node::stream::{Listener, NodeStream};

/// Bytes taken at once.
const CHUNK: usize = 256 << 10;

pub(super) async fn serve(listener: Listener) {
    let mut sessions = JoinSet::new();
    while let Ok(stream) = listener.accept().await {
        sessions.spawn(async move {
            // However it ends, it concerns this stream only.
            let _ = echo(stream).await;
        });
        while sessions.try_join_next().is_some() {}
    }
}

async fn echo(stream: NodeStream) -> Result<(), NodeError> {
    loop {
        let Some(chunk) = stream.try_read(CHUNK)? else {
            poll_fn(|cx| stream.poll_readable(cx)).await?;
            continue;
        };
        if chunk.is_empty() {
            stream.close();
            return Ok(());
        }
        write_all(&stream, &chunk).await?;
    }
}

/// Writes everything, waiting for room.
pub(super) async fn write_all(stream: &NodeStream, mut data: &[u8]) -> Result<(), NodeError> {
    while !data.is_empty() {
        match stream.try_write(data)? {
            0 => poll_fn(|cx| stream.poll_writable(cx)).await?,
            written => data = data.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}

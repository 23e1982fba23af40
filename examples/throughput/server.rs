//! The receiving process: a rendezvous, a node, a sink and an echo.

use std::future::poll_fn;
use std::io::Write as _;

use pilot_agent::node::NodeStream;
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use serde_json::json;

use super::args::Args;
use super::client::write_all;
use super::{ECHO_PORT, Result, SERVER, SINK_PORT, cpu, node};

/// Most bytes of one read.
const READ: usize = 1 << 20;

pub(crate) async fn serve(args: &Args) -> Result<()> {
    let listen = std::net::SocketAddr::new(args.bind, 0);
    let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await?;
    let home = tempfile::tempdir()?;
    let address = rendezvous.local_addr().to_string();
    let node = node(args, address.clone(), Some(SERVER), &home).await?;
    let (sink_port, echo_port) = (node.listen(SINK_PORT)?, node.listen(ECHO_PORT)?);
    println!("{}", json!({ "rendezvous": address }));
    std::io::stdout().flush()?;
    let ended = stdin_ends(args.until_eof);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            stream = sink_port.accept() => drop(tokio::spawn(sink(stream?))),
            stream = echo_port.accept() => drop(tokio::spawn(echo(stream?))),
        }
    }
}

/// Ready at the end of standard input, if that matters.
async fn stdin_ends(matters: bool) {
    if matters {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(sender);
        });
        let _ = receiver.await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// Reads to the end, then says what it cost.
async fn sink(stream: NodeStream) -> Result<()> {
    let (mut bytes, cpu_before) = (0, cpu::seconds()?);
    loop {
        match stream.try_read(READ)? {
            Some(chunk) if chunk.is_empty() => break,
            Some(chunk) => bytes += chunk.len() as u64,
            None => poll_fn(|cx| stream.poll_readable(cx)).await?,
        }
    }
    let report = json!({ "bytes": bytes, "cpu_s": cpu::seconds()? - cpu_before });
    write_all(&stream, report.to_string().as_bytes()).await?;
    stream.finish()?;
    poll_fn(|cx| stream.poll_drained(cx)).await?;
    Ok(())
}

async fn echo(stream: NodeStream) -> Result<()> {
    loop {
        match stream.try_read(READ)? {
            Some(chunk) if chunk.is_empty() => return Ok(()),
            Some(chunk) => write_all(&stream, &chunk).await?,
            None => poll_fn(|cx| stream.poll_readable(cx)).await?,
        }
    }
}

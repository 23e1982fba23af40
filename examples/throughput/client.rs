//! The sending process.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use pilot_agent::node::{NodeStream, PeerRef};
use serde_json::{Value, json};

use super::args::Args;
use super::latency::{self, Probe};
use super::{ECHO_PORT, Result, SERVER, SINK_PORT, cpu, node};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Sent before the measurement, so that windows are open and code is warm.
const WARM_UP: u64 = 50_000_000;

pub(crate) async fn send(args: &Args, rendezvous: &str) -> Result<()> {
    let home = tempfile::tempdir()?;
    let node = node(args, rendezvous.to_owned(), None, &home).await?;
    let peer: PeerRef = SERVER.parse()?;
    let echo = node.open_stream(&peer, ECHO_PORT, true, TIMEOUT).await?;
    let idle = if args.latency { Some(latency::measure(&echo, None).await?) } else { None };

    let warm_up = node.open_stream(&peer, SINK_PORT, true, TIMEOUT).await?;
    transfer(&warm_up, WARM_UP.min(args.bytes), args.write).await?;
    let stream = node.open_stream(&peer, SINK_PORT, true, TIMEOUT).await?;
    let probe = args.latency.then(|| Probe::start(echo));
    let (start, cpu_before) = (Instant::now(), cpu::seconds()?);
    let server = transfer(&stream, args.bytes, args.write).await?;
    let (seconds, cpu_s) = (start.elapsed().as_secs_f64(), cpu::seconds()? - cpu_before);
    let loaded = match probe {
        Some(probe) => Some(probe.stop().await?),
        None => None,
    };
    let gigabytes = args.bytes as f64 / 1e9;
    let server_cpu = server["cpu_s"].as_f64().ok_or("the server did not report")?;
    let mut result = json!({
        "bytes": args.bytes,
        "payload": stream.stats().map(|stats| stats.max_payload),
        "seconds": seconds,
        "mb_per_s": args.bytes as f64 / 1e6 / seconds,
        "client": { "cpu_s": cpu_s, "cpu_s_per_gb": cpu_s / gigabytes },
        "server": { "cpu_s": server_cpu, "cpu_s_per_gb": server_cpu / gigabytes },
        "cpu_s_per_gb": (cpu_s + server_cpu) / gigabytes,
    });
    if let Some(stats) = stream.stats() {
        result["segments"] = json!(stats.segments_sent);
        result["retransmitted"] = json!(stats.segments_retransmitted);
        result["recoveries"] = json!(stats.recoveries);
    }
    if let (Some(idle), Some(loaded)) = (idle, loaded) {
        result["latency_us"] = json!({ "idle": idle, "loaded": loaded });
    }
    println!("{result:#}");
    node.close().await;
    Ok(())
}

/// Sends `bytes`, and returns what the server says after the last one.
async fn transfer(stream: &NodeStream, bytes: u64, write: usize) -> Result<Value> {
    let data = vec![0x5a; write];
    let mut left = bytes;
    while left > 0 {
        let piece = &data[..data.len().min(usize::try_from(left)?)];
        write_all(stream, piece).await?;
        left -= piece.len() as u64;
    }
    stream.finish()?;
    let mut report = Vec::new();
    loop {
        match stream.try_read(4_096)? {
            Some(chunk) if chunk.is_empty() => return Ok(serde_json::from_slice(&report)?),
            Some(chunk) => report.extend_from_slice(&chunk),
            None => poll_fn(|cx| stream.poll_readable(cx)).await?,
        }
    }
}

pub(crate) async fn write_all(stream: &NodeStream, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match stream.try_write(data)? {
            0 => poll_fn(|cx| stream.poll_writable(cx)).await?,
            written => data = &data[written..],
        }
    }
    Ok(())
}

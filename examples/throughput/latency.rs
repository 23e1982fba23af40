//! Round trips of small requests, with and without other traffic in the same tunnel.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilot_agent::node::NodeStream;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Result;
use super::client::write_all;

/// Bytes of a request, and of its answer.
const REQUEST: usize = 64;
/// Requests of a measurement without an end of its own.
const REQUESTS: usize = 1_000;
/// From an answer to the next request: the requests are an agent's, not a load of their own.
const PAUSE: Duration = Duration::from_micros(500);

/// Requests that go on until they are stopped.
pub(crate) struct Probe {
    done: Arc<AtomicBool>,
    task: JoinHandle<Result<Value>>,
}

impl Probe {
    pub(crate) fn start(echo: NodeStream) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        let task = tokio::spawn(async move { measure(&echo, Some(until)).await });
        Self { done, task }
    }

    pub(crate) async fn stop(self) -> Result<Value> {
        self.done.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Sends one request after the other; returns what they took.
pub(crate) async fn measure(echo: &NodeStream, until: Option<Arc<AtomicBool>>) -> Result<Value> {
    let mut took = Vec::new();
    let is_over = |count: usize| match &until {
        Some(done) => done.load(Ordering::Relaxed),
        None => count >= REQUESTS,
    };
    while !is_over(took.len()) {
        let start = Instant::now();
        write_all(echo, &[1; REQUEST]).await?;
        let mut answered = 0;
        while answered < REQUEST {
            match echo.try_read(REQUEST)? {
                Some(chunk) if chunk.is_empty() => return Err("the echo ended".into()),
                Some(chunk) => answered += chunk.len(),
                None => poll_fn(|cx| echo.poll_readable(cx)).await?,
            }
        }
        took.push(start.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len().saturating_sub(1)) as f64 * share;
        took.get(index as usize).map(|took| took.as_secs_f64() * 1e6)
    };
    Ok(json!({ "requests": took.len(), "p50": at(0.5), "p99": at(0.99) }))
}

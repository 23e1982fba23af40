//! What the native references have in common: the commands of `benches/peers/process.py`, one JSON
//! line each, and the protocol of `benches/peers/streams.py` on their streams.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

/// Anything that goes wrong: a benchmark prints it and ends.
pub type Failure = Box<dyn Error + Send + Sync>;
pub type Outcome<T> = Result<T, Failure>;

const READ: usize = 1 << 20;
const HEADER: usize = 9;
const LENGTH: usize = 4;
const FOREVER: u64 = 1 << 60;

/// A connection of the program under test.
pub trait Connection: Sized + Send + Sync {
    type Send: AsyncWrite + Unpin + Send + 'static;
    type Recv: AsyncRead + Unpin + Send + 'static;

    /// A new stream of it.
    fn open(&self) -> impl Future<Output = Outcome<(Self::Send, Self::Recv)>> + Send;

    /// A connection from a new endpoint to the same peer; the instant is that after the binding.
    fn another(&self) -> impl Future<Output = Outcome<(Self, Instant)>> + Send;
}

/// Prints an answer.
pub fn say(value: &Value) {
    println!("{value}");
    let _ = std::io::stdout().flush();
}

/// Waits for the end of the input: a server's life.
pub async fn until_told() {
    let mut lines = lines();
    while lines.recv().await.is_some() {}
}

/// The lines of the input as they come, read by a thread.
fn lines() -> UnboundedReceiver<String> {
    let (send, receive) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

/// The server's side of one stream.
pub async fn answer(
    mut send: impl AsyncWrite + Unpin,
    mut recv: impl AsyncRead + Unpin,
) -> Outcome<()> {
    let mut buf = vec![0; READ];
    loop {
        let mut header = [0; HEADER];
        recv.read_exact(&mut header).await?;
        let size = u64::from_be_bytes(header[1..].try_into()?);
        match header[0] {
            b'S' => {
                take(&mut recv, size, &mut buf).await?;
                send.write_all(b".").await?;
            }
            b'G' => give(&mut send, size, 256 << 10).await?,
            b'F' => answer_messages(&mut send, &mut recv).await?,
            _ => loop {
                match recv.read(&mut buf).await? {
                    0 => return Ok(()),
                    n => send.write_all(&buf[..n]).await?,
                }
            },
        }
    }
}

/// The measuring side: does what the lines of the input say, until it ends.
pub async fn measure<C: Connection>(connection: C) -> Outcome<()> {
    let mut bulk = connection.open().await?;
    let mut echo = connection.open().await?;
    echo.0.write_all(&header(b'E', 0)).await?;
    let mut messages = connection.open().await?;
    messages.0.write_all(&header(b'F', 0)).await?;
    say(&json!({ "value": null }));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let command: Value = serde_json::from_str(&line)?;
        let number = |n: usize| command[n].as_u64().unwrap_or(0);
        let count = number(1) as usize;
        let value = match command[0].as_str().unwrap_or("") {
            "send" => json!(send(&mut bulk, number(1), count_of(number(2))).await?),
            "flow" => json!(flow(&mut bulk, command[1].as_f64().unwrap_or(1.0), number(2)).await?),
            "round_trips" => json!(round_trips(&mut echo, count, count_of(number(2))).await?),
            "in_flight" => {
                json!(
                    in_flight(&mut messages, count, count_of(number(2)), count_of(number(3)))
                        .await?
                )
            }
            "new_streams" => json!(new_streams(&connection, count, count_of(number(2))).await?),
            "new_peers" => json!(new_peers(&connection, count, count_of(number(2))).await?),
            "beside_bulk" => {
                let busy = connection.open().await?;
                json!(beside_bulk(busy, &mut echo, count, count_of(number(2))).await?)
            }
            "fetch" => json!(fetch(&connection, count, number(2)).await?),
            _ => {
                say(&json!({ "missing": true }));
                continue;
            }
        };
        say(&json!({ "value": value }));
    }
    Ok(())
}

async fn answer_messages(
    send: &mut (impl AsyncWrite + Unpin),
    recv: &mut (impl AsyncRead + Unpin),
) -> Outcome<()> {
    loop {
        send.write_all(&read_message(recv).await?).await?;
    }
}

/// The next message, with its length in front.
async fn read_message(recv: &mut (impl AsyncRead + Unpin)) -> Outcome<Vec<u8>> {
    let mut message = vec![0; LENGTH];
    recv.read_exact(&mut message).await?;
    let size = u32::from_be_bytes(message[..].try_into()?) as usize;
    message.resize(LENGTH + size, 0);
    recv.read_exact(&mut message[LENGTH..]).await?;
    Ok(message)
}

fn count_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn header(kind: u8, size: u64) -> [u8; HEADER] {
    let mut header = [kind; HEADER];
    header[1..].copy_from_slice(&size.to_be_bytes());
    header
}

async fn take(recv: &mut (impl AsyncRead + Unpin), size: u64, buf: &mut [u8]) -> Outcome<()> {
    let mut left = size;
    while left > 0 {
        let want = buf.len().min(count_of(left));
        match recv.read(&mut buf[..want]).await? {
            0 => return Err("the stream ended early".into()),
            n => left -= n as u64,
        }
    }
    Ok(())
}

async fn give(send: &mut (impl AsyncWrite + Unpin), size: u64, chunk: usize) -> Outcome<()> {
    let data = vec![0; chunk];
    let mut left = size;
    while left > 0 {
        let n = chunk.min(count_of(left));
        send.write_all(&data[..n]).await?;
        left -= n as u64;
    }
    send.flush().await?;
    Ok(())
}

type Pair<S, R> = (S, R);

async fn send<S, R>(stream: &mut Pair<S, R>, size: u64, chunk: usize) -> Outcome<f64>
where
    S: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let start = Instant::now();
    stream.0.write_all(&header(b'S', size)).await?;
    give(&mut stream.0, size, chunk).await?;
    stream.1.read_exact(&mut [0]).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Pieces one after the other; when each had arrived.
async fn flow<S, R>(stream: &mut Pair<S, R>, seconds: f64, piece: u64) -> Outcome<Vec<f64>>
where
    S: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let (send, recv) = (&mut stream.0, &mut stream.1);
    let (start, mut times, mut done) = (Instant::now(), Vec::new(), [0; 4096]);
    let giving = async {
        loop {
            send.write_all(&header(b'S', piece)).await?;
            give(send, piece, 256 << 10).await?;
        }
    };
    let taking = async {
        loop {
            match recv.read(&mut done).await? {
                0 => return Err("the stream ended".into()),
                n => times.extend(std::iter::repeat_n(start.elapsed().as_secs_f64(), n)),
            }
        }
    };
    let both = async {
        tokio::select! { ended = giving => ended, ended = taking => ended }
    };
    match tokio::time::timeout(Duration::from_secs_f64(seconds), both).await {
        Ok(ended) => ended.map(|never: std::convert::Infallible| match never {}),
        Err(_) => Ok(times),
    }
}

async fn round_trips<S, R>(stream: &mut Pair<S, R>, count: usize, size: usize) -> Outcome<Vec<f64>>
where
    S: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let (payload, mut reply) = (vec![0; size], vec![0; size]);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        stream.0.write_all(&payload).await?;
        stream.1.read_exact(&mut reply).await?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

async fn in_flight<S, R>(
    stream: &mut Pair<S, R>,
    count: usize,
    depth: usize,
    size: usize,
) -> Outcome<f64>
where
    S: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let mut message = u32::try_from(size)?.to_be_bytes().to_vec();
    message.resize(LENGTH + size, 0);
    let start = Instant::now();
    for number in 0..count + depth {
        if number >= depth {
            read_message(&mut stream.1).await?;
        }
        if number < count {
            stream.0.write_all(&message).await?;
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn first_reply<C: Connection>(connection: &C, size: usize) -> Outcome<()> {
    let (mut send, mut recv) = connection.open().await?;
    let mut question = header(b'E', 0).to_vec();
    question.resize(HEADER + size, 0);
    send.write_all(&question).await?;
    recv.read_exact(&mut vec![0; size]).await?;
    send.shutdown().await?;
    Ok(())
}

async fn new_streams<C: Connection>(from: &C, count: usize, size: usize) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        first_reply(from, size).await?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

async fn new_peers<C: Connection>(like: &C, count: usize, size: usize) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (connection, start) = like.another().await?;
        first_reply(&connection, size).await?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

async fn beside_bulk<S, R>(
    mut busy: Pair<S, R>,
    echo: &mut Pair<S, R>,
    count: usize,
    size: usize,
) -> Outcome<Vec<f64>>
where
    S: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin + Send + 'static,
{
    let bulk = tokio::spawn(async move { send(&mut busy, FOREVER, 256 << 10).await });
    tokio::time::sleep(Duration::from_millis(300)).await; // time to fill every queue on the way
    let times = round_trips(echo, count, size).await;
    bulk.abort();
    times
}

async fn fetch<C: Connection>(connection: &C, parallel: usize, size: u64) -> Outcome<Vec<f64>> {
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..parallel {
        let (mut send, mut recv) = connection.open().await?;
        all.spawn(async move {
            send.write_all(&header(b'G', size)).await?;
            take(&mut recv, size, &mut vec![0; READ]).await?;
            Ok::<_, Failure>(start.elapsed().as_secs_f64())
        });
    }
    let mut times = Vec::with_capacity(parallel);
    while let Some(time) = all.join_next().await {
        times.push(time??);
    }
    Ok(times)
}

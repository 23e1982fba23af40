//! Bytes per second and processor time per byte of the native path: two processes, one stream.
//! `cargo run --release --example throughput -- --help` says how.

mod args;
mod client;
mod cpu;
mod latency;
mod server;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use args::{Args, Mode};
use pilot_agent::node::{Node, NodeConfig};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What the server is called, and where it listens.
const SERVER: &str = "throughput-server";
const SINK_PORT: u16 = 5_001;
const ECHO_PORT: u16 = 5_002;

fn main() -> Result<()> {
    let args = match Args::parse(std::env::args().skip(1))? {
        Some(args) => args,
        None => {
            println!("{}", args::HELP);
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads)
        .enable_all()
        .build()?;
    match &args.mode {
        Mode::Serve => runtime.block_on(server::serve(&args)),
        Mode::Send(rendezvous) => runtime.block_on(client::send(&args, rendezvous)),
        Mode::Run => {
            let (mut child, rendezvous) = start_server()?;
            let result = runtime.block_on(client::send(&args, &rendezvous));
            child.kill()?;
            child.wait()?;
            result
        }
    }
}

/// Starts the server as a process of its own with the same options; returns its rendezvous.
fn start_server() -> Result<(Child, String)> {
    let options = std::env::args().skip(1).filter(|arg| arg != "run");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--until-eof"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("the server has no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line)?;
    let rendezvous = ready["rendezvous"].as_str().ok_or("the server did not start")?;
    Ok((child, rendezvous.to_owned()))
}

/// A node with the options of the command line; its identity goes with `home`.
async fn node(
    args: &Args,
    rendezvous: String,
    hostname: Option<&str>,
    home: &tempfile::TempDir,
) -> Result<Node> {
    let mut config = NodeConfig {
        hostname: hostname.map(str::to_owned),
        rendezvous: Some(rendezvous),
        home: Some(home.path().to_owned()),
        listen: std::net::SocketAddr::new(args.bind, 0),
        ..NodeConfig::default()
    };
    if let Some(payload) = args.payload {
        config.stream.max_payload = payload;
        config.stream.payload_limit = payload;
    }
    if let Some(congestion) = args.congestion {
        config.stream.congestion = congestion;
    }
    if let Some(bytes) = args.max_buffer {
        config.stream.max_send_buffer = bytes;
        config.stream.max_recv_buffer = bytes;
    }
    Ok(Node::start(config).await?)
}

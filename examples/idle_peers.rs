//! What a node with many idle peers costs: processor time and memory of a real process.
//!
//! ```text
//! ulimit -n 8192; cargo run --release --example idle_peers -- 1000 20
//! ```
//! This process has one node. Another one, started by it, has a rendezvous and as many nodes as
//! the first argument says; each gets a ping, so each is a peer with keys and keep-alives. Then
//! nothing happens for as many seconds as the second argument says. The other process opens five
//! files for each of its nodes. Linux only.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pilot_agent::node::{Node, NodeConfig, NodeError, PeerRef};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use tokio::task::JoinSet;

/// Before the measurement, so that what the pings left behind is over.
const SETTLE: Duration = Duration::from_secs(5);
/// Nodes that start, or are pinged, at the same time.
const AT_ONCE: usize = 50;

fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| "1000".to_owned());
    let is_crowd = first == "crowd";
    let count: usize =
        if is_crowd { args.next().unwrap() } else { first }.parse().expect("a number of peers");
    let seconds = args.next().map_or(20, |text| text.parse().expect("a number of seconds"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let home = tempfile::tempdir().expect("a directory");
    if is_crowd {
        runtime.block_on(crowd(count, home.path()));
    } else {
        runtime.block_on(measure(count, Duration::from_secs(seconds), home.path()));
    }
}

async fn start(rendezvous: SocketAddr, home: &Path, hostname: String) -> Result<Node, NodeError> {
    Node::start(NodeConfig {
        hostname: Some(hostname),
        rendezvous: Some(rendezvous.to_string()),
        home: Some(home.to_owned()),
        listen: "127.0.0.1:0".parse().expect("an address"),
        ..NodeConfig::default()
    })
    .await
}

/// The other process: says where the rendezvous is once all nodes are there, then waits for the
/// end of its input.
async fn crowd(count: usize, home: &Path) {
    let listen = RendezvousConfig::new("127.0.0.1:0".parse().expect("an address"));
    let rendezvous = Rendezvous::bind(listen).await.expect("a rendezvous");
    let mut nodes = Vec::new();
    for first in (0..count).step_by(AT_ONCE) {
        let mut starting = JoinSet::new();
        for index in first..count.min(first + AT_ONCE) {
            let (address, home) = (rendezvous.local_addr(), home.to_owned());
            starting.spawn(async move { start(address, &home, format!("peer-{index}")).await });
        }
        nodes.extend(starting.join_all().await.into_iter().map(|node| node.expect("a node")));
    }
    println!("{}", rendezvous.local_addr());
    std::io::stdout().flush().expect("a reader");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
    drop(nodes);
}

async fn measure(count: usize, time: Duration, home: &Path) {
    let program = std::env::current_exe().expect("this program");
    let mut crowd = Command::new(program)
        .args(["crowd", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second process");
    let mut line = String::new();
    BufReader::new(crowd.stdout.take().expect("a pipe")).read_line(&mut line).expect("an address");
    let rendezvous = line.trim().parse().expect("where the rendezvous is");
    let node = start(rendezvous, home, "hub".to_owned()).await.expect("a node");
    let alone = resident_kib();
    for first in (0..count).step_by(AT_ONCE) {
        let mut pings = JoinSet::new();
        for index in first..count.min(first + AT_ONCE) {
            let (node, peer) = (node.clone(), format!("peer-{index}"));
            let peer: PeerRef = peer.parse().expect("a hostname");
            pings.spawn(async move { node.ping(&peer, Duration::from_secs(30)).await });
        }
        for pong in pings.join_all().await {
            pong.expect("an answer");
        }
    }
    tokio::time::sleep(SETTLE).await;
    let ready = node.peers().iter().filter(|peer| peer.encrypted).count();
    let (before, begin, sent) = (processor_time(), Instant::now(), datagrams(&node));
    tokio::time::sleep(time).await;
    let (used, took) = (processor_time() - before, begin.elapsed());
    println!("{ready} peers, {:.1} s idle", took.as_secs_f64());
    println!("processor   {:.2} % of a core", 100.0 * used.as_secs_f64() / took.as_secs_f64());
    println!("datagrams   {} sent", datagrams(&node) - sent);
    println!("memory      {} KiB, {:.1} KiB a peer", resident_kib(), {
        (resident_kib() - alone) as f64 / count as f64
    });
    node.close().await;
    drop(crowd.stdin.take());
    let _ = crowd.wait();
}

fn datagrams(node: &Node) -> u64 {
    let counters = node.info().counters;
    counters.iter().find(|(name, _)| *name == "datagrams_sent").map_or(0, |(_, count)| *count)
}

/// User and system time of this process; the kernel counts in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().expect("the fields after the name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|field| field.parse::<u64>().expect("ticks") * 10).sum())
}

fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4
}

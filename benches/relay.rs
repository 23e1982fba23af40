//! What a beacon relays: `make bench-relay`.
//!
//! The rendezvous is a process of its own, so that its processor time can be told from that of the
//! load, which takes the rest of the machine: on few cores the time for a datagram says more than
//! how many passed. Senders send runs as nodes do (GSO), as fast as the machine lets them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::net::registry_client::{RegistryClient, RegistryTimeouts};
use pilot_agent::net::udp::{RecvBatch, UdpIo};
use pilot_agent::proto::beacon::{Beacon, BeaconConfig, Roster};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::beacon::relay_header;
use pilot_agent::wire::registry::{Base64, Register, Request, Response};
use pilot_agent::wire::{BeaconMessage, NodeId};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const TIME: Duration = Duration::from_secs(4);
const PAIRS: usize = 8;
const RUN: usize = 32;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, workers, ..] = &arguments[..]
        && role == "serve"
    {
        return serve(workers.parse()?);
    }
    println!("decisions under the one lock, in batches of {RUN}");
    for threads in [1, 2, 4] {
        println!("{threads:>3} threads {:>14.0} /s", decisions(threads));
    }
    println!("\nworkers  bytes  relayed/s    MB/s  lost  CPU us/datagram  MB/s and core");
    for workers in [1, 2] {
        for bytes in [200, 1_200] {
            let Figures { relayed, sent, cpu } = measure(workers, bytes)?;
            let (count, secs) = (relayed as f64, TIME.as_secs_f64());
            let each = cpu.as_secs_f64() / count;
            println!(
                "{workers:>7} {bytes:>6} {:>10.0} {:>7.0} {:>4.0}% {:>16.2} {:>14.0}",
                count / secs,
                count * bytes as f64 / secs / 1e6,
                (1.0 - count / sent as f64) * 100.0,
                each * 1e6,
                bytes as f64 / each / 1e6,
            );
        }
    }
    Ok(())
}

/// A rendezvous, until the standard input ends.
fn serve(workers: usize) -> Outcome<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = RendezvousConfig { workers, ..RendezvousConfig::new(listen) };
        let rendezvous = Rendezvous::bind(config).await?;
        println!("{}", rendezvous.local_addr());
        std::io::stdout().flush()?;
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        rendezvous.shutdown().await;
        Ok(())
    })
}

struct Figures {
    sent: u64,
    relayed: u64,
    cpu: Duration,
}

fn measure(workers: usize, bytes: usize) -> Outcome<Figures> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &workers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let rendezvous: SocketAddr = line.trim().parse()?;
    let nodes = (0..PAIRS * 2).map(|seed| join(rendezvous, seed)).collect::<Outcome<Vec<_>>>()?;
    let (senders, receivers) = nodes.split_at(PAIRS);

    let (sent, received, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let before = cpu_time(&server)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let runs: Vec<Vec<u8>> = senders
                .iter()
                .zip(receivers)
                .map(|((from, _), (to, _))| {
                    let mut datagram = relay_header(*from, *to).to_vec();
                    datagram.resize(bytes, 0x55);
                    datagram.repeat(RUN)
                })
                .collect();
            while !is_over.load(Ordering::Relaxed) {
                for ((_, socket), run) in senders.iter().zip(&runs) {
                    if let Ok(taken) = socket.try_send(rendezvous, run, bytes) {
                        sent.fetch_add((taken / bytes) as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        scope.spawn(|| {
            let mut batch = RecvBatch::default();
            while !is_over.load(Ordering::Relaxed) {
                let mut is_idle = true;
                for (_, socket) in receivers {
                    while socket.try_recv(&mut batch).is_ok() {
                        is_idle = false;
                        let mut count = 0;
                        batch.for_each(|_, datagram| count += u64::from(datagram.len() > 100));
                        received.fetch_add(count, Ordering::Relaxed);
                    }
                }
                if is_idle {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        thread::sleep(TIME);
        is_over.store(true, Ordering::Relaxed);
    });
    let cpu = cpu_time(&server)?.saturating_sub(before);
    drop(server.stdin.take());
    server.wait()?;
    Ok(Figures { sent: sent.into_inner(), relayed: received.into_inner(), cpu })
}

/// A registered node that the beacon has noted.
fn join(rendezvous: SocketAddr, seed: usize) -> Outcome<(NodeId, UdpIo)> {
    let identity = Identity::from_seed(&[u8::try_from(seed)?; 32]);
    let socket = UdpIo::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let response = runtime.block_on(async {
        let registry = RegistryClient::new(rendezvous.to_string(), RegistryTimeouts::default());
        let key = Base64(identity.public_key());
        let register = Request::Register(Register::new(key, socket.local_addr().to_string()));
        registry.call(register.signed(|text| identity.sign(text))).await
    })?;
    let Response::RegisterOk { node_id, .. } = response else {
        return Err(format!("not registered: {response:?}").into());
    };
    let mut discover = Vec::new();
    BeaconMessage::Discover { node: node_id, public_key: None, extended: false }
        .encode(&mut discover);
    socket.try_send(rendezvous, &discover, discover.len())?;
    Ok((node_id, socket))
}

/// The processor time of a child so far.
fn cpu_time(child: &Child) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ, which is 100 on Linux wherever one looks.
    Ok(Duration::from_millis(ticks * 10))
}

struct Everybody;

impl Roster for Everybody {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        Some(address(node.0))
    }

    fn public_key(&self, _node: NodeId) -> Option<[u8; 32]> {
        None
    }

    fn may_punch(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

fn address(node: u32) -> SocketAddr {
    let [_, a, b, c] = node.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 4_000))
}

/// How many datagrams a second threads can have decided on, if that were all they do.
fn decisions(threads: u32) -> f64 {
    let unlimited = BeaconConfig {
        relays_per_sec: u32::MAX,
        relay_bytes_per_sec: u64::MAX,
        total_bytes_per_sec: u64::MAX,
        ..BeaconConfig::default()
    };
    let beacon = Mutex::new(Beacon::new(&unlimited, [1; 32]));
    let (count, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for thread in 1..=threads {
            let (beacon, count, is_over) = (&beacon, &count, &is_over);
            scope.spawn(move || {
                let original = relay_header(NodeId(thread), NodeId(1_000 + thread));
                while !is_over.load(Ordering::Relaxed) {
                    let now = Instant::now();
                    let mut batch = [original; RUN];
                    let mut beacon = beacon.lock().expect("no thread panics");
                    for datagram in &mut batch {
                        let from = address(thread);
                        let action = beacon.handle_datagram(now, from, datagram, &Everybody);
                        std::hint::black_box(action);
                    }
                    drop(beacon);
                    count.fetch_add(RUN as u64, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Relaxed);
    });
    count.into_inner() as f64
}

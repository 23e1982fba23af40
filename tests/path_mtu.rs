//! Path MTU discovery over real sockets: on loopback as it is, and on one that takes no more than
//! 1400 bytes, in a network namespace of its own.

use std::future::poll_fn;
use std::process::Command;
use std::time::Duration;

use pilot_agent::net::udp::{RecvBatch, UdpIo, is_too_large};
use pilot_agent::net::watch::Interest;
use pilot_agent::node::{Node, NodeConfig, NodeStream, PeerRef};
use pilot_agent::server::{Rendezvous, RendezvousConfig};

const LIMIT: Duration = Duration::from_secs(30);
const PORT: u16 = 2_000;
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "PILOT_TEST_IN_NAMESPACE";
const NARROW_MTU: usize = 1_400;

/// Runs `test` again in a namespace whose loopback takes 1400 bytes; `true` means that this
/// already is that run.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        command
    };
    if !unshared("ip link set lo up mtu 1400").status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: this machine lets us have no network namespace");
        return false;
    }
    let run = unshared("ip link set lo up mtu 1400 && exec \"$0\" \"$@\"").status().unwrap();
    assert!(run.success());
    false
}

fn datagrams_fragmented() -> u64 {
    let table = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let column = names.split(' ').position(|name| name == "FragCreates").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

/// Sends a few megabytes from one node to another and returns what the sender then says of the
/// path.
async fn transfer() -> u16 {
    let listen = "127.0.0.1:0".parse().unwrap();
    let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let start = |hostname: &str| {
        Node::start(NodeConfig {
            hostname: Some(hostname.to_owned()),
            rendezvous: Some(rendezvous.local_addr().to_string()),
            home: Some(home.path().to_owned()),
            listen,
            ..NodeConfig::default()
        })
    };
    let (a, b) = (start("a").await.unwrap(), start("b").await.unwrap());
    let listener = b.listen(PORT).unwrap();
    let to: PeerRef = "b".parse().unwrap();
    let stream = a.open_stream(&to, PORT, true, LIMIT).await.unwrap();
    let other = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    let data: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let expected = data.clone();
    let reader = tokio::spawn(async move { read(&other, expected.len()).await == expected });
    let mut rest = &data[..];
    while !rest.is_empty() {
        match stream.try_write(rest).unwrap() {
            0 => poll_fn(|cx| stream.poll_writable(cx)).await.unwrap(),
            written => rest = &rest[written..],
        }
    }
    assert!(reader.await.unwrap());
    let found = a.peers()[0].path_mtu.expect("the path was used");
    a.close().await;
    b.close().await;
    found
}

async fn read(stream: &NodeStream, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        match stream.try_read(1 << 20).unwrap() {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => poll_fn(|cx| stream.poll_readable(cx)).await.unwrap(),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_is_used_with_the_largest_datagrams() {
    let found = tokio::time::timeout(LIMIT, transfer()).await.unwrap();
    assert!(found > 32 << 10, "{found}");
}

#[test]
fn a_narrow_interface_is_used_to_the_full_and_nothing_is_fragmented() {
    if !is_inside("a_narrow_interface_is_used_to_the_full_and_nothing_is_fragmented") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(async { tokio::time::timeout(LIMIT, transfer()).await });
    assert_eq!(usize::from(found.unwrap()), NARROW_MTU - 28);
    assert_eq!(datagrams_fragmented(), 0);
}

/// "Don't fragment" is set: the kernel refuses rather than cuts.
#[test]
fn a_datagram_larger_than_the_interface_takes_is_an_error() {
    if !is_inside("a_datagram_larger_than_the_interface_takes_is_an_error") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for (listen, headers) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
            let [a, b] = [listen; 2].map(|listen| UdpIo::bind(listen.parse().unwrap()).unwrap());
            let most = NARROW_MTU - headers;
            let data = vec![1; most + 1];
            let refused = a.try_send(b.local_addr(), &data, data.len()).unwrap_err();
            assert!(is_too_large(&refused), "{refused}");
            a.try_send(b.local_addr(), &data[..most], most).unwrap();
            let (mut batch, mut sizes) = (RecvBatch::default(), Vec::new());
            let watch = b.watch(Interest::Readable).unwrap();
            while sizes.is_empty() {
                watch.ready().await.unwrap();
                if watch.attempt(|| b.try_recv(&mut batch)).is_ok() {
                    batch.for_each(|_, datagram| sizes.push(datagram.len()));
                }
            }
            assert_eq!(sizes, [most]);
        }
        assert_eq!(datagrams_fragmented(), 0);
    });
}

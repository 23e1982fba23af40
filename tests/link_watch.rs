//! Changes of a machine's network, made in a network namespace of the test's own. Needs root and
//! `ip`; without them it says so and passes.
#![cfg(target_os = "linux")]

use std::process::Command;
use std::time::{Duration, Instant};

use pilot_agent::net::link_watch::{Change, LinkWatch};
use tokio::time::timeout;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "PILOT_TEST_LINK_WATCH";
/// A change is known within milliseconds; this is for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(10);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}

/// A namespace that goes with the value.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self, String> {
        let name = format!("pilot-lw-{}", std::process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).output();
        match output {
            Ok(output) if output.status.success() => Ok(Self(name)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("ip: {error}")),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn changes_of_the_network_are_noticed() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.unwrap().block_on(inside());
    }
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => return eprintln!("skipped: no network namespace is to be had: {why}"),
    };
    let status = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(std::env::current_exe().unwrap())
        .args(["changes_of_the_network_are_noticed", "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

async fn inside() {
    ip("link set lo up");
    ip("link add wan type veth peer name far");
    ip("link set far up");
    ip("link set wan up");
    ip("addr add 10.9.0.2/24 dev wan");
    ip("route add default via 10.9.0.1");
    let mut watch = LinkWatch::new("198.51.100.1:9".parse().unwrap());
    assert_eq!(source(&watch), "10.9.0.2");
    // What the set-up still sends after it, such as IPv6 addresses, is not ours to judge.
    while timeout(Duration::from_secs(2), watch.changed()).await.is_ok() {}

    ip("link add docker0 type bridge");
    ip("addr add 172.17.0.1/16 dev docker0");
    expect(&mut watch, Change::Addresses, "a bridge for containers").await;
    assert_eq!(source(&watch), "10.9.0.2");

    ip("addr del 10.9.0.2/24 dev wan");
    ip("addr add 10.9.1.7/24 dev wan");
    ip("route replace default via 10.9.1.1");
    expect(&mut watch, Change::Moved, "another address").await;
    assert_eq!(source(&watch), "10.9.1.7");

    ip("link set wan down");
    ip("link set wan up");
    ip("route replace default via 10.9.1.1");
    expect(&mut watch, Change::Moved, "the link was down, the address is the same").await;

    ip("route del default");
    assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err());
    assert!(watch.current().source.is_none());
    ip("route add default via 10.9.1.1");
    expect(&mut watch, Change::Moved, "online again").await;
}

fn source(watch: &LinkWatch) -> String {
    watch.current().source.map(|ip| ip.to_string()).unwrap_or_default()
}

/// The change comes, perhaps after lesser ones and more than once.
async fn expect(watch: &mut LinkWatch, wanted: Change, what: &str) {
    let begun = Instant::now();
    while timeout(LIMIT, watch.changed()).await.expect(what) != wanted {}
    println!("{what}: noticed after {} ms", begun.elapsed().as_millis());
    while timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {}
}

//! pilot-agent as a program in Rust for `benches/compare.py`, next to the other references:
//! `bench-peer serve HOST MTU NAME RENDEZVOUS`, and `bench-peer connect HOST MTU NAME RENDEZVOUS
//! WHERE`, WHERE being what the server printed. It finds packet sizes itself; the MTU is not used.
//!
//! An example of the library and not a member of that workspace: it has no lock file of its own.

#[path = "../common/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Connection, Outcome, answer, measure, say, until_told};
use pilot_agent::node::{Node, NodeConfig, NodeStream, PeerRef};
use serde_json::{Value, json};
use tokio::io::{ReadHalf, WriteHalf};

const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a node of this program needs to start.
struct Place {
    host: IpAddr,
    name: String,
    rendezvous: String,
    /// Nodes started so far: each has a name of its own.
    count: AtomicU32,
}

struct Client<'a> {
    place: &'a Place,
    node: Node,
    peer: PeerRef,
    /// The node's home, as long as the node.
    _home: tempfile::TempDir,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, host, _mtu, name, rendezvous, ..] = &arguments[..] else {
        return Err("usage: bench-peer serve|connect HOST MTU NAME RENDEZVOUS [WHERE]".into());
    };
    let place = Place {
        host: host.parse()?,
        name: format!("{name}-{role}"),
        rendezvous: rendezvous.clone(),
        count: AtomicU32::new(0),
    };
    if role == "serve" {
        return serve(&place).await;
    }
    let server: Value = serde_json::from_str(arguments.get(5).ok_or("no WHERE")?)?;
    let peer = PeerRef::Hostname(server["peer"].as_str().ok_or("no peer")?.to_owned());
    measure(place.client(peer).await?).await
}

async fn serve(place: &Place) -> Outcome<()> {
    let (node, _home) = place.node().await?;
    let listener = node.listen(PORT)?;
    say(&json!({ "value": { "peer": node.hostname() } }));
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let (recv, send) = tokio::io::split(stream);
            tokio::spawn(answer(send, recv));
        }
    });
    until_told().await;
    node.close().await;
    Ok(())
}

impl Place {
    async fn node(&self) -> Outcome<(Node, tempfile::TempDir)> {
        let home = tempfile::tempdir()?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let config = NodeConfig {
            hostname: Some(format!("{}-{number}", self.name)),
            rendezvous: Some(self.rendezvous.clone()),
            home: Some(home.path().to_owned()),
            listen: SocketAddr::new(self.host, 0),
            ..NodeConfig::default()
        };
        Ok((Node::start(config).await?, home))
    }

    async fn client(&self, peer: PeerRef) -> Outcome<Client<'_>> {
        let (node, home) = self.node().await?;
        Ok(Client { place: self, node, peer, _home: home })
    }
}

impl Connection for Client<'_> {
    type Send = WriteHalf<NodeStream>;
    type Recv = ReadHalf<NodeStream>;

    async fn open(&self) -> Outcome<(Self::Send, Self::Recv)> {
        let stream = self.node.open_stream(&self.peer, PORT, true, PATIENCE).await?;
        let (recv, send) = tokio::io::split(stream);
        Ok((send, recv))
    }

    async fn another(&self) -> Outcome<(Self, Instant)> {
        let client = self.place.client(self.peer.clone()).await?;
        Ok((client, Instant::now()))
    }
}

//! How a node is set up.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::path::PathPolicy;
use crate::proto::stream::StreamConfig;

/// Settings of a node; [`NodeConfig::default`] works.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name others find this node by; `None` for a node that only calls others.
    pub hostname: Option<String>,
    /// `host:port` of a rendezvous, `registry=host:port,beacon=host:port`, `embedded` or
    /// `embedded:port`; the first two perhaps with `,compat=wss://host:port/path` if its WebSocket is
    /// elsewhere, and `,pin=sha256:<hex>` for its certificate. `None`: `PILOT_RENDEZVOUS`, then
    /// the configuration file, then `embedded`.
    pub rendezvous: Option<String>,
    /// Directory of identities and pins. `None`: `PILOT_HOME`, then `~/.pilot-agent`.
    pub home: Option<PathBuf>,
    /// UDP address to bind. The default is every address, IPv6 and IPv4, any free port.
    pub listen: SocketAddr,
    /// Where others reach this node from outside, if that is not to be found out: a port that was
    /// forwarded by hand, the address of a load balancer.
    pub public_endpoint: Option<SocketAddr>,
    /// Whether the router may be asked to forward a port to this node (PCP, NAT-PMP, UPnP).
    pub port_mapping: bool,
    /// Whether every agent of the rendezvous may find this one and connect.
    pub public: bool,
    /// Whether whoever asks for trust gets it. Otherwise requests wait for
    /// [`Node::approve`](super::Node::approve).
    pub trust_auto_approve: bool,
    /// What this agent can do, in words others search for; at most 16 of at most 64 bytes.
    pub capabilities: Vec<String>,
    /// Where received files go. `None`: `<home>/inbox/<hostname>`.
    pub inbox: Option<PathBuf>,
    /// How long `start` may take.
    pub start_timeout: Duration,
    /// Time between heartbeats to the registry. What keeps the node reachable through its NAT are
    /// other, smaller datagrams.
    pub heartbeat: Duration,
    /// Which paths may be used, and what for, with peers that have no policy of their own.
    pub paths: PathPolicy,
    /// Settings of every stream.
    pub stream: StreamConfig,
    /// Largest message, in bytes.
    pub max_message: usize,
    /// Bytes of messages that wait for the application; more are not acknowledged.
    pub inbox_limit: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            hostname: None,
            rendezvous: None,
            home: None,
            listen: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            public_endpoint: None,
            port_mapping: true,
            public: true,
            trust_auto_approve: false,
            capabilities: Vec::new(),
            inbox: None,
            start_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            paths: PathPolicy::default(),
            stream: StreamConfig::default(),
            max_message: 64 << 20,
            inbox_limit: 256 << 20,
        }
    }
}

impl NodeConfig {
    /// A stream of a peer that vanished fails after `limit`: at the latest when it was that long
    /// without progress, or silent in spite of two probes. Default 30 s without progress.
    pub fn lose_peers_after(&mut self, limit: Duration) {
        self.stream.user_timeout = limit;
        self.stream.keepalive = limit / 3;
        self.stream.idle_timeout = limit;
    }
}

//! A rendezvous, registered nodes with and without a WebSocket, and a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use pilot_agent::crypto::Identity;
use pilot_agent::net::compat_client::{self, CompatError, CompatSocket};
use pilot_agent::net::dial::{Proxies, Server};
use pilot_agent::net::registry_client::{RegistryClient, RegistryTimeouts};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::NodeId;
use pilot_agent::wire::beacon::BeaconMessage;
use pilot_agent::wire::registry::{Base64, Register, Request, Response};
use tokio_tungstenite::tungstenite::Message;

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn rendezvous() -> Rendezvous {
    let listen = "127.0.0.1:0".parse().unwrap();
    Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap()
}

/// The rendezvous at `addr`, whose certificate is pinned.
pub(crate) fn server(addr: SocketAddr, rendezvous: &Rendezvous) -> Arc<Server> {
    let compat = format!("wss://{addr}").parse().unwrap();
    let server =
        Server::new(addr.to_string(), Some(compat), rendezvous.fingerprint(), Proxies::default());
    Arc::new(server)
}

/// A registered node.
pub(crate) struct Agent {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    pub(crate) server: Arc<Server>,
    pub(crate) registry: RegistryClient,
}

impl Agent {
    pub(crate) async fn join(rendezvous: &Rendezvous, seed: u8, endpoint: &str) -> Self {
        Self::join_by(server(rendezvous.local_addr(), rendezvous), seed, endpoint).await
    }

    pub(crate) async fn join_by(server: Arc<Server>, seed: u8, endpoint: &str) -> Self {
        let identity = Identity::from_seed(&[seed; 32]);
        let registry = RegistryClient::of(server.clone(), RegistryTimeouts::default());
        let relay_only = endpoint == "0.0.0.0:0";
        let register =
            Register { relay_only, ..Register::new(Base64(identity.public_key()), endpoint) };
        let request = Request::Register(register).signed(|text| identity.sign(text));
        let Response::RegisterOk { node_id, .. } = registry.call(request).await.unwrap() else {
            panic!()
        };
        Self { id: node_id, identity, server, registry }
    }

    /// A node without UDP.
    pub(crate) async fn walled(rendezvous: &Rendezvous, seed: u8) -> Self {
        Self::join(rendezvous, seed, "0.0.0.0:0").await
    }

    pub(crate) async fn connect(&self) -> Result<CompatSocket, CompatError> {
        compat_client::connect(&self.server, self.id, &self.identity).await
    }
}

pub(crate) fn relay(from: &Agent, to: &Agent, frame: &[u8]) -> Vec<u8> {
    encoded(BeaconMessage::Relay { sender: from.id, destination: to.id, frame })
}

pub(crate) fn delivery(from: &Agent, frame: &[u8]) -> Vec<u8> {
    encoded(BeaconMessage::RelayDeliver { sender: from.id, destination: None, frame })
}

pub(crate) fn discover(agent: &Agent) -> Vec<u8> {
    encoded(BeaconMessage::Discover { node: agent.id, public_key: None, extended: false })
}

fn encoded(message: BeaconMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

pub(crate) async fn send(socket: &mut CompatSocket, datagram: Vec<u8>) {
    socket.send(Message::Binary(Bytes::from(datagram))).await.unwrap();
}

/// The next binary frame.
pub(crate) async fn receive(socket: &mut CompatSocket) -> Vec<u8> {
    let next = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(frame) => return frame.to_vec(),
                Message::Close(close) => panic!("{close:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap()
}

/// How the other end closes the connection: the code, and its words.
pub(crate) async fn closed(socket: &mut CompatSocket) -> (u16, String) {
    let close = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, close).await.unwrap()
}

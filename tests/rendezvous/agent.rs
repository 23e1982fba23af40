//! A node made by hand: what it says on the wire is what a test says.

use std::net::SocketAddr;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use pilot_agent::net::registry_client::{RegistryClient, RegistryError, RegistryTimeouts};
use pilot_agent::wire::beacon::prove_string;
use pilot_agent::wire::registry::{Base64, Register, Request, Response};
use pilot_agent::wire::{BeaconMessage, NodeId};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{PATIENCE, loopback};

/// A registered node, with a UDP socket that the beacon has seen.
pub(crate) struct Agent {
    pub(crate) key: SigningKey,
    pub(crate) registry: RegistryClient,
    pub(crate) socket: UdpSocket,
    pub(crate) beacon: SocketAddr,
    pub(crate) id: NodeId,
}

impl Agent {
    /// One on loopback.
    pub(crate) async fn join(rendezvous: SocketAddr, seed: u8) -> Self {
        Self::join_from(loopback(), rendezvous, seed).await
    }

    pub(crate) async fn join_from(at: SocketAddr, rendezvous: SocketAddr, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let socket = UdpSocket::bind(at).await.unwrap();
        let listen_addr = socket.local_addr().unwrap().to_string();
        let client = RegistryClient::new(rendezvous.to_string(), RegistryTimeouts::default());
        let public_key = Base64(key.verifying_key().to_bytes());
        let register = Request::Register(Register::new(public_key, listen_addr))
            .signed(|text| key.sign(text).to_bytes());
        let response = client.call(register).await.unwrap();
        let Response::RegisterOk { node_id: id, .. } = response else { panic!("{response:?}") };
        let agent = Self { key, registry: client, socket, beacon: rendezvous, id };
        agent.ok(Request::SetVisibility { node_id: id, public: true, signature: None }).await;
        agent.discover().await;
        agent
    }

    pub(crate) async fn call(&self, request: Request) -> Result<Response, RegistryError> {
        self.registry.call(request.signed(|text| self.key.sign(text).to_bytes())).await
    }

    pub(crate) async fn ok(&self, request: Request) -> Response {
        self.call(request).await.unwrap()
    }

    pub(crate) async fn set_hostname(&self, hostname: &str) -> Result<Response, RegistryError> {
        let hostname = hostname.into();
        self.call(Request::SetHostname { node_id: self.id, hostname, signature: None }).await
    }

    pub(crate) async fn send(&self, message: BeaconMessage<'_>) {
        let mut datagram = Vec::new();
        message.encode(&mut datagram);
        self.socket.send_to(&datagram, self.beacon).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let received = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
        let (len, from) = received.expect("nothing came").unwrap();
        assert_eq!(from, self.beacon);
        buffer[..len].to_vec()
    }

    pub(crate) async fn discover(&self) {
        let discover = BeaconMessage::Discover { node: self.id, public_key: None, extended: false };
        self.send(discover).await;
        let own = self.socket.local_addr().unwrap();
        let datagram = self.receive().await;
        assert_eq!(
            BeaconMessage::parse(&datagram),
            Ok(BeaconMessage::DiscoverReply { endpoint: own })
        );
    }

    /// Answers a challenge, or with a cookie of zeros asks for one, as nodes of ours do.
    pub(crate) async fn prove(&self, cookie: &[u8; 16]) {
        let signature = &self.key.sign(prove_string(self.id, cookie).as_bytes()).to_bytes();
        let public_key = &self.key.verifying_key().to_bytes();
        self.send(BeaconMessage::Prove { node: self.id, public_key, cookie, signature }).await;
    }

    /// Receives until there is a challenge, and meets it; then everything until the answer.
    pub(crate) async fn meet_challenge(&self) {
        loop {
            let datagram = self.receive().await;
            if let Ok(BeaconMessage::Challenge { cookie }) = BeaconMessage::parse(&datagram) {
                self.prove(cookie).await;
                break;
            }
        }
        loop {
            let datagram = self.receive().await;
            if let Ok(BeaconMessage::DiscoverReply { .. }) = BeaconMessage::parse(&datagram) {
                break;
            }
        }
    }

    pub(crate) async fn relay(&self, to: &Self, frame: &[u8]) {
        self.send(BeaconMessage::Relay { sender: self.id, destination: to.id, frame }).await;
    }

    /// The next frame that was relayed, unless none comes for a while.
    pub(crate) async fn relayed(&self, patience: Duration) -> Option<Vec<u8>> {
        let next = async {
            loop {
                let datagram = self.receive().await;
                if let Ok(BeaconMessage::RelayDeliver { frame, .. }) =
                    BeaconMessage::parse(&datagram)
                {
                    return frame.to_vec();
                }
            }
        };
        timeout(patience, next).await.ok()
    }
}

//! Stories about a directory: nodes that register, name themselves, and ask about each other.

mod identity;
mod limits;
mod privacy;
mod search;

use std::net::SocketAddr;

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::wire::registry::{Base64, Found, NodeInfo, Register, Resolved};

const NOW: u64 = 1_800_000_000;

/// An agent with a key, at an address.
struct Agent {
    key: SigningKey,
    from: SocketAddr,
    id: NodeId,
}

impl Agent {
    fn new(seed: u8) -> Self {
        let from = SocketAddr::from(([203, 0, 113, seed], 50_000));
        Self { key: SigningKey::from_bytes(&[seed; 32]), from, id: NodeId(0) }
    }

    /// One that is registered and public.
    fn registered(directory: &mut Directory, seed: u8) -> Self {
        let mut agent = Self::new(seed);
        agent.register(directory, NOW);
        let public = Request::SetVisibility { node_id: agent.id, public: true, signature: None };
        agent.ok(directory, NOW, public);
        agent
    }

    fn named(directory: &mut Directory, seed: u8, hostname: &str) -> Self {
        let agent = Self::registered(directory, seed);
        agent.ok(directory, NOW, agent.set_hostname(hostname));
        agent
    }

    fn registration(&self) -> Register {
        let key = Base64(self.key.verifying_key().to_bytes());
        Register::new(key, "127.0.0.1:4000")
    }

    fn register(&mut self, directory: &mut Directory, now: u64) {
        let response = self.ok(directory, now, Request::Register(self.registration()));
        let Response::RegisterOk { node_id, .. } = response else { panic!("{response:?}") };
        self.id = node_id;
    }

    fn ask(&self, directory: &mut Directory, now: u64, request: Request) -> Outcome {
        let request = request.signed(|text| self.key.sign(text).to_bytes());
        directory.handle(now, self.from, request)
    }

    fn ok(&self, directory: &mut Directory, now: u64, request: Request) -> Response {
        let Outcome { response, .. } = self.ask(directory, now, request);
        assert!(!matches!(response, Response::Error { .. }), "{response:?}");
        response
    }

    fn error(&self, directory: &mut Directory, now: u64, request: Request) -> (ErrorCode, String) {
        match self.ask(directory, now, request).response {
            Response::Error { error, code } => (code, error),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn set_hostname(&self, hostname: &str) -> Request {
        Request::SetHostname { node_id: self.id, hostname: hostname.into(), signature: None }
    }

    fn set_public(&self, public: bool) -> Request {
        Request::SetVisibility { node_id: self.id, public, signature: None }
    }

    fn heartbeat(&self) -> Request {
        Request::Heartbeat { node_id: self.id, signature: None }
    }

    fn resolve(&self, target: &Self) -> Request {
        Request::Resolve { node_id: target.id, requester_id: self.id, signature: None }
    }

    fn set_capabilities(&self, texts: &[&str]) -> Request {
        let capabilities = texts.iter().map(|&text| text.to_owned()).collect();
        Request::SetCapabilities { node_id: self.id, capabilities, signature: None }
    }
}

fn directory() -> Directory {
    Directory::new(DirectoryConfig::default())
}

fn by_hostname(directory: &mut Directory, now: u64, hostname: &str) -> Response {
    let request = Request::ResolveHostname {
        hostname: hostname.into(),
        requester_id: NodeId(0),
        signature: None,
    };
    directory.handle(now, SocketAddr::from(([198, 51, 100, 1], 9)), request).response
}

fn found(response: Response) -> Found {
    match response {
        Response::ResolveHostnameOk(found) => found,
        other => panic!("not found: {other:?}"),
    }
}

fn resolved(response: Response) -> Resolved {
    match response {
        Response::ResolveOk(resolved) => resolved,
        other => panic!("not resolved: {other:?}"),
    }
}

fn looked_up(directory: &mut Directory, id: NodeId) -> NodeInfo {
    let from = SocketAddr::from(([198, 51, 100, 1], 9));
    match directory.handle(NOW, from, Request::Lookup { node_id: id }).response {
        Response::LookupOk(info) => info,
        other => panic!("not found: {other:?}"),
    }
}

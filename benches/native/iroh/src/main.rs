//! iroh without relays and discovery: `reference-iroh serve HOST MTU`, and
//! `reference-iroh connect HOST MTU WHERE`, WHERE being what the server printed. It finds packet
//! sizes itself, so the MTU is not used, and has its own windows: with 64 MiB a connection on
//! loopback ends in "too many gaps in stream buffer".

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use iroh::endpoint::{QuicTransportConfig, RecvStream, SendStream, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use reference_common::{Connection, Outcome, answer, measure, say, until_told};
use serde_json::{Value, json};

const ALPN: &[u8] = b"bench";

struct Client {
    connection: iroh::endpoint::Connection,
    /// Lives as long as its connection.
    _endpoint: Endpoint,
    host: IpAddr,
    peer: EndpointAddr,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, host, ..] = &arguments[..] else {
        return Err("usage: reference-iroh serve|connect HOST MTU [WHERE]".into());
    };
    let host: IpAddr = host.parse()?;
    if role == "serve" {
        return serve(host).await;
    }
    let where_: Value = serde_json::from_str(arguments.get(3).ok_or("no WHERE")?)?;
    let id: EndpointId = where_["id"].as_str().ok_or("no id")?.parse()?;
    let sockets: Vec<SocketAddr> = serde_json::from_value(where_["sockets"].clone())?;
    let peer = sockets.into_iter().fold(EndpointAddr::new(id), EndpointAddr::with_ip_addr);
    measure(connect(host, peer).await?.0).await
}

async fn serve(host: IpAddr) -> Outcome<()> {
    let endpoint = bind(host).await?;
    let (id, sockets) = (endpoint.id().to_string(), endpoint.bound_sockets());
    say(&json!({ "value": { "id": id, "sockets": sockets } }));
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                loop {
                    let (send, recv) = connection.accept_bi().await?;
                    tokio::spawn(answer(send, recv));
                }
                #[allow(unreachable_code)]
                Outcome::Ok(())
            });
        }
    });
    until_told().await;
    Ok(())
}

async fn bind(host: IpAddr) -> Outcome<Endpoint> {
    let transport = QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(10_000))
        .build();
    Ok(Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr(SocketAddr::from((host, 0)))?
        .alpns(vec![ALPN.to_vec()])
        .transport_config(transport)
        .bind()
        .await?)
}

async fn connect(host: IpAddr, peer: EndpointAddr) -> Outcome<(Client, Instant)> {
    let endpoint = bind(host).await?;
    let start = Instant::now();
    let connection = endpoint.connect(peer.clone(), ALPN).await?;
    Ok((Client { connection, _endpoint: endpoint, host, peer }, start))
}

impl Connection for Client {
    type Send = SendStream;
    type Recv = RecvStream;

    async fn open(&self) -> Outcome<(SendStream, RecvStream)> {
        Ok(self.connection.open_bi().await?)
    }

    async fn another(&self) -> Outcome<(Self, Instant)> {
        connect(self.host, self.peer.clone()).await
    }
}

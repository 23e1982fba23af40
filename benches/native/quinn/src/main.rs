//! quinn, tuned for the path it is on: `reference-quinn serve HOST MTU`, and
//! `reference-quinn connect HOST MTU WHERE`, WHERE being what the server printed.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use reference_common::{Connection, Outcome, answer, measure, say, until_told};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

/// Of UDP payload; where a path allows more, more is slower.
const LARGEST: u16 = 6000;
const HEADERS: u16 = 48;
const WINDOW: u32 = 64 << 20;

struct Client {
    connection: quinn::Connection,
    config: ClientConfig,
    host: IpAddr,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, host, mtu, ..] = &arguments[..] else {
        return Err("usage: reference-quinn serve|connect HOST MTU [WHERE]".into());
    };
    let (host, mtu): (IpAddr, u16) = (host.parse()?, mtu.parse::<u32>()?.min(60_000) as u16);
    if role == "serve" {
        return serve(host, mtu).await;
    }
    let where_: Value = serde_json::from_str(arguments.get(3).ok_or("no WHERE")?)?;
    let server: SocketAddr = where_["address"].as_str().ok_or("no address")?.parse()?;
    let certificate: Vec<u8> = serde_json::from_value(where_["certificate"].clone())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate))?;
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    config.transport_config(Arc::new(transport(mtu)));
    let connection = connect(&config, host, server).await?.0;
    measure(Client { connection, config, host }).await
}

async fn serve(host: IpAddr, mtu: u16) -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key.into())?;
    config.transport_config(Arc::new(transport(mtu)));
    let endpoint = bind(host, Some(config))?;
    let address = endpoint.local_addr()?;
    say(&json!({ "value": { "address": address, "certificate": made.cert.der().to_vec() } }));
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

fn transport(mtu: u16) -> TransportConfig {
    let mut config = TransportConfig::default();
    let packet = (mtu - HEADERS).min(LARGEST);
    config
        .initial_mtu(packet)
        .min_mtu(packet)
        .mtu_discovery_config(None)
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(10_000));
    config
}

fn bind(host: IpAddr, server: Option<ServerConfig>) -> Outcome<Endpoint> {
    let socket =
        Socket::new(Domain::for_address((host, 0).into()), Type::DGRAM, Some(Protocol::UDP))?;
    // As much as the kernel gives.
    let _ = socket.set_recv_buffer_size(8 << 20);
    let _ = socket.set_send_buffer_size(8 << 20);
    socket.bind(&SocketAddr::from((host, 0)).into())?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(65_527)?;
    Ok(Endpoint::new(config, server, UdpSocket::from(socket), Arc::new(TokioRuntime))?)
}

async fn connect(
    config: &ClientConfig,
    host: IpAddr,
    server: SocketAddr,
) -> Outcome<(quinn::Connection, Instant)> {
    let endpoint = bind(host, None)?;
    let start = Instant::now();
    let connection = endpoint.connect_with(config.clone(), server, "localhost")?.await?;
    Ok((connection, start))
}

impl Connection for Client {
    type Send = SendStream;
    type Recv = RecvStream;

    async fn open(&self) -> Outcome<(SendStream, RecvStream)> {
        Ok(self.connection.open_bi().await?)
    }

    async fn another(&self) -> Outcome<(Self, Instant)> {
        let server = self.connection.remote_address();
        let (connection, start) = connect(&self.config, self.host, server).await?;
        Ok((Self { connection, config: self.config.clone(), host: self.host }, start))
    }
}

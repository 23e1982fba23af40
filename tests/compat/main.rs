//! Where UDP is blocked: TLS, proxies and WebSocket, over real sockets on loopback.

mod nodes;
mod proxy;
mod server;
mod support;

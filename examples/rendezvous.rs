//! Runs a rendezvous until it is interrupted:
//! `cargo run --example rendezvous -- [LISTEN [DATABASE]]`

use std::error::Error;
use std::io::Write;

use pilot_agent::server::{Rendezvous, RendezvousConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:7470".into()).parse()?;
    let mut config = RendezvousConfig::new(listen);
    config.store = args.next().map(Into::into);
    let rendezvous = Rendezvous::bind(config).await?;
    println!("listening on {}", rendezvous.local_addr());
    std::io::stdout().flush()?;
    // Ends with the terminal's Ctrl-C; the database is safe at any moment.
    std::future::pending::<()>().await;
    rendezvous.shutdown().await;
    Ok(())
}

//! What a node offers by itself, each on its well-known port.

pub(super) mod data;
mod echo;
mod file_name;
mod file_store;
pub(super) mod handshake;
mod inbox;
mod sessions;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::config::NodeConfig;
use super::core::Shared;
use super::error::NodeError;
use super::resolver::Resolver;
use super::stream::Listener;
use super::trust::Trust;
use crate::wire::ports;

/// Starts them as tasks of the node.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    resolver: &Arc<Resolver>,
    trust: &Arc<Trust>,
    config: &NodeConfig,
    inbox_dir: PathBuf,
) -> Result<(), NodeError> {
    tasks.spawn(echo::serve(Listener::bind(shared, ports::ECHO)?));
    let data = Listener::bind(shared, ports::DATA_EXCHANGE)?;
    let inbox = inbox::Inbox::new(shared.clone(), resolver.clone(), config, inbox_dir);
    tasks.spawn(data::serve(data, inbox));
    tasks.spawn(handshake::serve(Listener::bind(shared, ports::HANDSHAKE)?, trust.clone()));
    Ok(())
}

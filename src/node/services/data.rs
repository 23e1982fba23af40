//! Data exchange (port 1001), both sides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::node::core::Shared;
use crate::node::error::NodeError;
use crate::node::resolver::Resolver;
use crate::node::stream::Listener;
use crate::node::types::{Payload, PeerRef};

pub(in crate::node) async fn send(
    _shared: &Arc<Shared>,
    _resolver: &Resolver,
    _peer: &PeerRef,
    _payload: &Payload,
    _after: Duration,
) -> Result<(), NodeError> {
    Err(NodeError::Closed)
}

pub(in crate::node) async fn send_file(
    _shared: &Arc<Shared>,
    _resolver: &Resolver,
    _peer: &PeerRef,
    _path: &Path,
    _after: Duration,
) -> Result<(), NodeError> {
    Err(NodeError::Closed)
}

pub(super) async fn serve(listener: Listener, _inbox: Inbox) {
    while listener.accept().await.is_ok() {}
}

//! Where messages and files of data exchange land.

use std::path::PathBuf;
use std::sync::Arc;

use crate::node::config::NodeConfig;
use crate::node::core::Shared;
use crate::node::resolver::Resolver;

pub(super) struct Inbox {}

impl Inbox {
    pub(super) fn new(
        _shared: Arc<Shared>,
        _resolver: Arc<Resolver>,
        _config: &NodeConfig,
        _dir: PathBuf,
    ) -> Self {
        Self {}
    }
}

//! The node.

mod config;
mod core;
mod driver;
mod error;
mod types;

pub use config::NodeConfig;
pub use error::NodeError;
pub use types::*;

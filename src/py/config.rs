//! Options of `Node.start` as a [`NodeConfig`].

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert;
use super::errors;
use super::paths;
use crate::node::NodeConfig;

/// Builds a configuration from keyword options; `None` keeps the default, an unknown name is an
/// error.
pub(crate) fn node_config(
    hostname: Option<String>,
    options: &Bound<'_, PyDict>,
) -> PyResult<NodeConfig> {
    let mut config = NodeConfig { hostname, ..NodeConfig::default() };
    for (name, value) in options {
        if !value.is_none() {
            apply(&mut config, &name.extract::<String>()?, &value)?;
        }
    }
    Ok(config)
}

fn apply(config: &mut NodeConfig, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "rendezvous" => config.rendezvous = Some(value.extract()?),
        "home" => config.home = Some(value.extract::<PathBuf>()?),
        "listen" => config.listen = convert::listen_addr(&value.extract::<String>()?)?,
        "public_endpoint" => {
            config.public_endpoint = Some(convert::public_endpoint(&value.extract::<String>()?)?);
        }
        "port_mapping" => config.port_mapping = value.extract()?,
        "public" => config.public = value.extract()?,
        "capabilities" => config.capabilities = value.extract()?,
        "inbox" => config.inbox = Some(value.extract::<PathBuf>()?),
        "timeout" => config.start_timeout = seconds(value)?,
        "heartbeat" => config.heartbeat = seconds(value)?,
        "peer_timeout" => config.lose_peers_after(seconds(value)?),
        "paths" => config.paths = paths::policy(&value.extract()?)?,
        "max_message" => config.max_message = value.extract()?,
        "congestion" => {
            config.stream.congestion = convert::congestion(&value.extract::<String>()?)?;
        }
        "inbox_limit" => config.inbox_limit = value.extract()?,
        _ => return Err(errors::invalid(&format!("no such option: {name}"))),
    }
    Ok(())
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let limit = convert::timeout(Some(value.extract()?))?;
    if limit.is_zero() {
        return Err(errors::invalid("a time limit of 0 seconds makes no sense"));
    }
    Ok(limit)
}

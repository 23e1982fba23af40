//! Bad networks for a node to be in.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::convert::{self, Peer};
use super::errors::{self, OrRaise};
use super::fork::Held;
use super::node::Node;
use super::runtime::{guarded, rare};
use crate::node::{
    self, BadNetwork, Block, Direction, LinkCounters, LinkParams, Loss, SimulationCounters,
};

/// How long a datagram is held back where there is no delay to measure it by.
const HOLD_BACK: Duration = Duration::from_millis(5);

/// `(sent, delivered, lost, dropped, too big, blocked, duplicated, reordered)`, there and back.
type Counters = (LinkParts, LinkParts);
type LinkParts = (u64, u64, u64, u64, u64, u64, u64, u64);

fn link_parts(link: LinkCounters) -> LinkParts {
    let LinkCounters { sent, delivered, lost, dropped, too_big, blocked, duplicated, reordered } =
        link;
    (sent, delivered, lost, dropped, too_big, blocked, duplicated, reordered)
}

fn parts(counters: SimulationCounters) -> Counters {
    (link_parts(counters.outgoing), link_parts(counters.incoming))
}

/// A bad network that a node is in until `stop`.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Simulation {
    simulation: Held<Arc<node::Simulation>>,
}

#[pymethods]
impl Simulation {
    /// Begins one; see [`options`].
    #[new]
    fn new(py: Python<'_>, node: &Node, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(|| {
            let network = bad_network(options)?;
            let simulation = node.get()?.simulate(network).or_raise(py)?;
            Ok(Self { simulation: Held::new(Arc::new(simulation)) })
        })
    }

    /// Whether nothing happens before `aim`.
    fn needs_aim(&self) -> PyResult<bool> {
        guarded(|| Ok(self.simulation.get()?.needs_aim()))
    }

    /// Looks up the peer that it is meant for.
    fn aim<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let simulation = Arc::clone(self.simulation.get()?);
            rare(py, async move { simulation.aim().await }, convert::nothing)
        })
    }

    fn counters(&self) -> PyResult<Counters> {
        guarded(|| Ok(parts(self.simulation.get()?.counters())))
    }

    fn stop(&self) -> PyResult<Counters> {
        guarded(|| Ok(parts(self.simulation.get()?.stop())))
    }
}

/// A bad network from keyword options; `None` is left as in a perfect one.
fn bad_network(options: &Bound<'_, PyDict>) -> PyResult<BadNetwork> {
    // As a queue somewhere on the way would: jitter alone reorders nothing.
    let link = LinkParams { keep_order: true, ..LinkParams::default() };
    let mut network = BadNetwork { link, ..BadNetwork::default() };
    let (mut loss, mut burst) = (0.0, None);
    for (name, value) in options {
        if value.is_none() {
            continue;
        }
        match &*name.extract::<String>()? {
            "loss" => loss = value.extract()?,
            "burst" => burst = Some(value.extract::<f64>()?),
            name => apply(&mut network, name, &value)?,
        }
    }
    let link = &mut network.link;
    link.loss = losses(loss, burst)?;
    if link.delay.is_zero() {
        link.reorder_by = Some(HOLD_BACK);
    }
    Ok(network)
}

fn apply(network: &mut BadNetwork, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let link = &mut network.link;
    match name {
        "delay" => link.delay = seconds(name, value)?,
        "jitter" => link.jitter = seconds(name, value)?,
        "rate" => link.rate = Some(rate(value)?),
        "duplicate" => link.duplicate = value.extract()?,
        "reorder" => link.reorder = value.extract()?,
        "mtu" => link.mtu = Some(whole(name, value)?),
        "seed" => link.seed = whole(name, value)?,
        "block" => network.block = Some(block(&value.extract::<String>()?)?),
        "direction" => network.direction = direction(&value.extract::<String>()?)?,
        "peer" => network.peer = Some(value.extract::<Peer>()?.0),
        _ => return Err(errors::invalid(&format!("no such option: {name}"))),
    }
    Ok(())
}

fn losses(share: f64, burst: Option<f64>) -> PyResult<Loss> {
    match burst {
        None => Ok(Loss::Bernoulli(share)),
        Some(packets) if !(packets >= 1.0 && packets.is_finite()) => Err(errors::invalid(
            &format!("burst is the datagrams of an average burst, 1 or more, not {packets}"),
        )),
        Some(_) if share == 0.0 => {
            Err(errors::invalid("burst says how losses come; say how many, too: loss=0.03"))
        }
        // Out of range it is no burst, but an error that `validate` words.
        Some(_) if !(0.0..=1.0).contains(&share) => Ok(Loss::Bernoulli(share)),
        Some(packets) => Ok(Loss::bursts(share, packets)),
    }
}

/// Bytes per second from bits per second, or from a text such as `8mbit`.
fn rate(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if value.is_instance_of::<PyString>() {
        let text: String = value.extract()?;
        return format!("rate={text}")
            .parse::<LinkParams>()
            .ok()
            .and_then(|link| link.rate)
            .ok_or_else(|| errors::invalid(&format!("rate is like \"8mbit\", not {text:?}")));
    }
    let bits: f64 = value.extract()?;
    if !(8.0..=1e12).contains(&bits) {
        let message = format!("rate is in bits per second, from 8 to 1e12, not {bits}");
        return Err(errors::invalid(&message));
    }
    // In range, so nothing is cut off but a fraction of a byte.
    Ok((bits / 8.0) as u64)
}

fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| errors::invalid(&format!("{name} is in seconds, 0 or more, not {seconds}")))
}

fn whole<'py, T: FromPyObjectOwned<'py>>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<T> {
    value
        .extract()
        .map_err(|_| errors::invalid(&format!("{name} is a whole number, 0 or more, not {value}")))
}

fn block(name: &str) -> PyResult<Block> {
    match name {
        "udp" => Ok(Block::Udp),
        "direct" => Ok(Block::Direct),
        _ => Err(errors::invalid(&format!("block is \"udp\" or \"direct\", not {name:?}"))),
    }
}

fn direction(name: &str) -> PyResult<Direction> {
    match name {
        "both" => Ok(Direction::Both),
        "out" => Ok(Direction::Outgoing),
        "in" => Ok(Direction::Incoming),
        _ => {
            Err(errors::invalid(&format!("direction is \"both\", \"in\" or \"out\", not {name:?}")))
        }
    }
}

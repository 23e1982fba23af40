"""Small networks on one machine: hosts in namespaces, links that can be bad, NATs between them.

    with Lab(Topology.line("us", "them", "rate=100mbit,delay=10ms,loss=1%")) as lab:
        lab.popen("them", "some-server", lab.address("them"))
        lab.run("us", "some-client", lab.address("them"))
        lab.wire("us", "them").both("loss=3%")

The links are those of the crate `linkem`, in its program; what a text like the above may say
stands there. `Internet` makes topologies with homes behind NATs, `Nat` says how these behave, and
`behaviour` finds out from behind one whether it does. Needs root; `missing` says what else a
machine lacks.
"""

from .flows import Flow, Flows
from .internet import CORE, Internet
from .lab import Lab
from .nat import Behaviour, Nat
from .nat_probe import Prober
from .requirements import missing
from .topology import Host, Link, Topology
from .wire import Counters, Wire

__all__ = [
    "CORE",
    "Behaviour",
    "Counters",
    "Flow",
    "Flows",
    "Host",
    "Internet",
    "Lab",
    "Link",
    "Nat",
    "Prober",
    "Topology",
    "Wire",
    "missing",
]

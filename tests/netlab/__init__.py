"""Small networks on one machine: hosts in namespaces, and links between them that can be bad.

    with Lab(Topology.line("us", "them", "rate=100mbit,delay=10ms,loss=1%")) as lab:
        lab.popen("them", "some-server", lab.address("them"))
        lab.run("us", "some-client", lab.address("them"))
        lab.wire("us", "them").both("loss=3%")

The links are those of the crate `linkem`, in its program; what a text like the above may say
stands there. Needs root; `missing` says what else a machine lacks.
"""

from .lab import Lab
from .requirements import missing
from .topology import Host, Link, Topology
from .wire import Counters, Wire

__all__ = ["Counters", "Host", "Lab", "Link", "Topology", "Wire", "missing"]

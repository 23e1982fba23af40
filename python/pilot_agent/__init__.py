"""pilot-agent: the network layer of multi-agent systems.

Agents get an address that belongs to their key, find each other by name or by what they can do,
and talk over encrypted tunnels: messages, requests, streams, datagrams.

Example:
    >>> async with Node.start("coordinator") as node:
    ...     reply = await node.request("specialist-fx", {"pair": "EUR/USD"}, timeout=5)
    ...     print(reply.json())
"""

from __future__ import annotations

from ._native import __version__
from .datagram import DatagramPort
from .errors import (
    ConnectionRefused,
    ForkedProcessError,
    HostnameTaken,
    IdentityError,
    IdentityInUse,
    IdentityMismatch,
    InvalidArgument,
    LocalError,
    NodeClosed,
    PayloadTooLarge,
    PeerNotFound,
    PeerUnreachable,
    PilotError,
    PortInUse,
    ProtocolError,
    RegistryError,
    RequestFailed,
    RequestTimeout,
    StreamReset,
    TrustRequired,
    Unsupported,
)
from .message import (
    AgentInfo,
    Datagram,
    Message,
    NodeInfo,
    Peer,
    PeerInfo,
    Pong,
    Reply,
    Request,
    StreamStats,
    TrustAnswer,
    TrustedPeer,
    TrustRequest,
)
from .node import Node
from .path import (
    Candidate,
    Events,
    NatInfo,
    NetworkChanged,
    PathChanged,
    PathInfo,
    PathPolicy,
    PathReport,
    Route,
)
from .payload import JSON, Payload
from .rendezvous import Rendezvous
from .simulation import LinkCounters, Simulation, SimulationCounters
from .stream import Listener, Stream
from .trust import Trust

__all__ = [
    "JSON",
    "AgentInfo",
    "Candidate",
    "ConnectionRefused",
    "Datagram",
    "DatagramPort",
    "Events",
    "ForkedProcessError",
    "HostnameTaken",
    "IdentityError",
    "IdentityInUse",
    "IdentityMismatch",
    "InvalidArgument",
    "LinkCounters",
    "Listener",
    "LocalError",
    "Message",
    "NatInfo",
    "NetworkChanged",
    "Node",
    "NodeClosed",
    "NodeInfo",
    "PathChanged",
    "PathInfo",
    "PathPolicy",
    "PathReport",
    "Payload",
    "PayloadTooLarge",
    "Peer",
    "PeerInfo",
    "PeerNotFound",
    "PeerUnreachable",
    "PilotError",
    "Pong",
    "PortInUse",
    "ProtocolError",
    "RegistryError",
    "Rendezvous",
    "Reply",
    "Request",
    "RequestFailed",
    "RequestTimeout",
    "Route",
    "Simulation",
    "SimulationCounters",
    "Stream",
    "StreamReset",
    "StreamStats",
    "Trust",
    "TrustAnswer",
    "TrustRequest",
    "TrustRequired",
    "TrustedPeer",
    "Unsupported",
    "__version__",
]

"""What arrives, and what is known of peers: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .payload import Content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .path import Candidate, NatInfo, PathKind
    from .payload import Kind

__all__ = [
    "AgentInfo",
    "Datagram",
    "Message",
    "NodeInfo",
    "Peer",
    "PeerInfo",
    "Pong",
    "Reply",
    "Request",
    "StreamStats",
    "TrustAnswer",
    "TrustRequest",
    "TrustedPeer",
]

Peer: TypeAlias = str | int
"""Who to talk to: a hostname, an address such as ``0:0000.A91F.7C2E``, or a node id."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""What nearly all messages travel with."""


@dataclass(frozen=True, slots=True)
class Message(Content):
    """A message that has arrived.

    Attributes:
        sender: Address of the node that sent it, as its tunnel authenticated it.
        sender_hostname: Its hostname, where this node knows it.
        payload: The bytes; see also `text()` and `json()`.
        kind: What they were when they were sent.
        id: Unique among the messages of one sender process.
        headers: Small texts that travelled beside the payload.
        filename: Of a file: its name, without directories.
        path: Of a file: where it was stored.
    """

    sender: str
    sender_hostname: str | None
    payload: bytes = field(repr=False)
    kind: Kind
    id: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    filename: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True, init=False)
class Request(Content):
    """A question to answer, as the handler of `Node.on_request` gets it.

    Attributes:
        sender: Address of the node that asks, as its tunnel authenticated it.
        sender_hostname: Its hostname, where this node knows it.
        payload: The bytes; see also `text()` and `json()`.
        kind: What they were when they were sent.
        headers: Small texts that travelled beside the payload.
    """

    sender: str
    sender_hostname: str | None
    payload: bytes = field(repr=False)
    kind: Kind
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __init__(
        self,
        sender: str,
        sender_hostname: str | None,
        payload: bytes,
        kind: Kind,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        # As dataclasses would, but one look-up less for each field: these two come in numbers.
        _request_sender(self, sender)
        _request_hostname(self, sender_hostname)
        _request_payload(self, payload)
        _request_kind(self, kind)
        _request_headers(self, headers)


@dataclass(frozen=True, slots=True, init=False)
class Reply(Content):
    """The answer to a request.

    Attributes:
        sender: Address of the node that answered.
        payload: The bytes; see also `text()` and `json()`.
        kind: What they were when they were sent.
        headers: Small texts that travelled beside the payload.
    """

    sender: str
    payload: bytes = field(repr=False)
    kind: Kind
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __init__(
        self, sender: str, payload: bytes, kind: Kind, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        _reply_sender(self, sender)
        _reply_payload(self, payload)
        _reply_kind(self, kind)
        _reply_headers(self, headers)


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram that has arrived.

    Attributes:
        sender: Address of the node that sent it.
        port: The port it was sent from: an answer goes there.
        data: The bytes.
    """

    sender: str
    port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping.

    Attributes:
        address: The node that answered.
        rtt: Round-trip time, in seconds.
        path: ``"direct"`` from socket to socket, or ``"relay"`` through the beacon.
        endpoint: The UDP address that packets are sent to.
        loss: Share of packets that this path lost of late, from 0 to 1, once measured.
        path_mtu: Bytes of UDP payload that it carries, once something large went there.
    """

    address: str
    rtt: float
    path: PathKind
    endpoint: str
    loss: float | None = None
    path_mtu: int | None = None


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An agent that was found by what it can do.

    Attributes:
        address: Its address.
        hostname: Its hostname, if it has one.
        capabilities: What it says it can do.
        score: How well that fits; higher is better, comparable within one answer only.
    """

    address: str
    hostname: str | None
    capabilities: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer that this node has a tunnel with, or is making one.

    Attributes:
        address: Its address.
        hostname: Its hostname, where known.
        public_key: Its Ed25519 key, once known.
        encrypted: Whether keys are agreed.
        path: Which way packets go.
        endpoint: The UDP address they go to.
        rtt: Smoothed round-trip time in seconds, once measured.
        path_mtu: Bytes of UDP payload that the path carries, once something large went there.
        streams: Streams open with it.
        bytes_sent: Bytes of UDP payload sent to it.
        bytes_received: Bytes of UDP payload received from it.
    """

    address: str
    hostname: str | None
    public_key: bytes | None
    encrypted: bool
    path: PathKind
    endpoint: str | None
    rtt: float | None
    path_mtu: int | None
    streams: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node knows of itself.

    Attributes:
        address: Its address.
        node_id: The same as a number.
        hostname: Its hostname, if it has one.
        public_key: Its Ed25519 key.
        local_addr: The UDP address it is bound to.
        observed_addr: The UDP address that the rendezvous saw, once it answered.
        nat: What stands between it and the others, as far as that is known.
        candidates: The addresses that peers are told, best first.
        transport: How the beacon is reached: ``udp``, or ``websocket`` while UDP is blocked.
        rendezvous: Where the registry is.
        hosts_rendezvous: Whether this node hosts the embedded rendezvous right now.
        registered: Whether the registry answers.
        public: Whether any registered agent may find it and connect.
        capabilities: What it offers.
        uptime: Seconds since start.
        peers: Peers known.
        streams: Streams open.
        counters: Named counters, for people and dashboards.
    """

    address: str
    node_id: int
    hostname: str | None
    public_key: bytes
    local_addr: str
    observed_addr: str | None
    nat: NatInfo
    candidates: tuple[Candidate, ...]
    transport: Literal["udp", "websocket"]
    rendezvous: str
    hosts_rendezvous: bool
    registered: bool
    public: bool
    capabilities: tuple[str, ...]
    uptime: float
    peers: int
    streams: int
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Counters and estimates of one stream; times in seconds.

    Attributes:
        state: Where the stream is in its life.
        bytes_sent: Data bytes sent for the first time.
        bytes_acked: Data bytes the peer has acknowledged.
        bytes_retransmitted: Data bytes sent again.
        bytes_received: Data bytes received in order.
        segments_sent: Segments of any kind that were sent.
        segments_received: Segments of any kind that were received.
        segments_retransmitted: Data segments sent again.
        timeouts: Retransmission timeouts.
        srtt: Smoothed round-trip time; `None` before the first measurement.
        min_rtt: Least round-trip time seen.
        rto: Retransmission timeout.
        cwnd: Congestion window, in bytes.
        in_flight: Bytes believed to be in the network.
        send_buffered: Bytes written that are not acknowledged.
        recv_buffered: Bytes received that were not read.
        max_payload: Payload bytes of a full segment.
    """

    state: str
    bytes_sent: int
    bytes_acked: int
    bytes_retransmitted: int
    bytes_received: int
    segments_sent: int
    segments_received: int
    segments_retransmitted: int
    timeouts: int
    srtt: float | None
    min_rtt: float | None
    rto: float
    cwnd: int
    in_flight: int
    send_buffered: int
    recv_buffered: int
    max_payload: int


@dataclass(frozen=True, slots=True)
class TrustRequest:
    """A request for trust that waits for a decision.

    Attributes:
        address: Who asks.
        hostname: Its hostname, where known.
        public_key: Its Ed25519 key.
        reason: Why, in its own words.
        received_at: When it came, in seconds since 1970.
    """

    address: str
    hostname: str | None
    public_key: bytes
    reason: str
    received_at: int


@dataclass(frozen=True, slots=True)
class TrustedPeer:
    """A peer that may find and reach this node although it is private.

    Attributes:
        address: Its address.
        hostname: Its hostname, where known.
        public_key: The Ed25519 key that is trusted.
        since: Since when, in seconds since 1970.
        mutual: It has said that it trusts this node, too.
    """

    address: str
    hostname: str | None
    public_key: bytes
    since: int
    mutual: bool


@dataclass(frozen=True, slots=True)
class TrustAnswer:
    """What became of a request for trust.

    Attributes:
        state: ``"granted"``, ``"undecided"`` or ``"refused"``.
        reason: Why it was refused, in the words of the peer's owner.
    """

    state: Literal["granted", "undecided", "refused"]
    reason: str = ""

    def __bool__(self) -> bool:
        """Whether the peer trusts this node."""
        return self.state == "granted"


def _setters(class_: type) -> Iterator[Any]:
    """The setters of a class's slots, which know nothing of it being frozen."""
    return (getattr(class_, field.name).__set__ for field in fields(class_))


(
    _request_sender,
    _request_hostname,
    _request_payload,
    _request_kind,
    _request_headers,
) = _setters(Request)
_reply_sender, _reply_payload, _reply_kind, _reply_headers = _setters(Reply)

for _name in __all__:
    if _name != "Peer":
        globals()[_name].__module__ = "pilot_agent"
del _name

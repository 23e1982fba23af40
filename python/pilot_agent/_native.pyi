from asyncio import Future
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, final

from typing_extensions import Buffer

__all__ = [
    "Alarm",
    "Bridge",
    "Calls",
    "DatagramPort",
    "Events",
    "Lease",
    "Listener",
    "Node",
    "Op",
    "Rendezvous",
    "Simulation",
    "Stream",
    "Trust",
    "__version__",
    "after_fork",
    "process",
    "shutdown",
    "start_node",
    "start_rendezvous",
]
__version__: str

_Headers: TypeAlias = list[tuple[str, str]]
_Path: TypeAlias = Literal["direct", "relay"]
_Transport: TypeAlias = Literal["udp", "websocket"]
_PayloadKind: TypeAlias = Literal["bytes", "text", "json"]
_Kind: TypeAlias = Literal["bytes", "text", "json", "file"]
_Message: TypeAlias = tuple[str, str | None, int, _Kind, bytes, _Headers, str | None, Path | None]
_Request: TypeAlias = tuple[int, str, str | None, _PayloadKind, bytes, _Headers]
_Reply: TypeAlias = tuple[str, _PayloadKind, bytes, _Headers]
_TrustAnswer: TypeAlias = tuple[Literal["granted", "undecided", "refused"], str]
_Pong: TypeAlias = tuple[str, float, _Path, str, float | None, int | None]
_Traffic: TypeAlias = Literal["normal", "bulk", "control"]
_Rule: TypeAlias = Literal["any", "direct-only", "duplicate"]
_Policy: TypeAlias = tuple[bool, bool, bool, _Rule, _Rule, _Rule]
_Route: TypeAlias = tuple[_Path, str | None]
_PathState: TypeAlias = Literal["unknown", "probing", "valid", "suspect", "dead"]
_PathReport: TypeAlias = tuple[
    _Path,
    str | None,
    _PathState,
    bool,
    float | None,
    float | None,
    int | None,
    float | None,
]
_PathInfo: TypeAlias = tuple[str, str, float | None, list[_PathReport]]
_Event: TypeAlias = (
    tuple[Literal["path"], float, str, str | None, _Route | None, _Route]
    | tuple[Literal["network"], float, str | None]
)
_Behavior: TypeAlias = Literal[
    "unknown", "open", "endpoint-independent", "address-dependent", "address-and-port-dependent"
]
_Nat: TypeAlias = tuple[str, _Behavior, _Behavior, bool | None, str, float | None]
_Candidate: TypeAlias = tuple[str, Literal["host", "observed", "mapped", "configured"]]
_LinkCounters: TypeAlias = tuple[int, int, int, int, int, int, int, int]
_Counters: TypeAlias = tuple[_LinkCounters, _LinkCounters]

class _PeerInfo(TypedDict):
    address: str
    hostname: str | None
    public_key: bytes | None
    encrypted: bool
    path: _Path
    endpoint: str | None
    rtt: float | None
    path_mtu: int | None
    streams: int
    bytes_sent: int
    bytes_received: int

class _NodeInfo(TypedDict):
    address: str
    node_id: int
    hostname: str | None
    public_key: bytes
    local_addr: str
    observed_addr: str | None
    transport: _Transport
    rendezvous: str
    hosts_rendezvous: bool
    registered: bool
    public: bool
    capabilities: tuple[str, ...]
    uptime: float
    peers: int
    streams: int
    counters: dict[str, int]

class _StreamStats(TypedDict):
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

@final
class Bridge:
    def __new__(cls, notify: Callable[[], object] | None = None) -> Bridge: ...
    def fileno(self) -> int: ...
    def alarm(self, token: int) -> Alarm: ...
    def drain(self) -> list[tuple[int, Any, BaseException | None]]: ...

@final
class Alarm: ...

@final
class Op:
    def cancel(self) -> None: ...
    def cancel_and_join(self) -> None: ...

@final
class Calls:
    def __new__(
        cls,
        node: Node,
        bridge: Bridge,
        reply: Callable[[str, bytes, _PayloadKind, Mapping[str, str]], object],
        no_headers: Mapping[str, str],
        flush_soon: Callable[[], object],
    ) -> Calls: ...
    def request(
        self,
        peer: str | int,
        kind: str,
        data: bytes | bytearray,
        traffic: _Traffic,
        seconds: float | None,
        future: Future[Any],
    ) -> int: ...
    def send(
        self,
        peer: str | int,
        kind: str,
        data: bytes | bytearray,
        traffic: _Traffic,
        seconds: float | None,
        future: Future[Any],
    ) -> int: ...
    def withdraw(self, number: int) -> None: ...

@final
class Lease:
    def __new__(cls) -> Lease: ...
    def release(self) -> None: ...

@final
class Node:
    def identity(self) -> tuple[str, int, str | None, bytes]: ...
    def info(self) -> _NodeInfo: ...
    def network(self) -> tuple[_Nat, list[_Candidate]]: ...
    def peers(self) -> list[_PeerInfo]: ...
    def resolve(self, peer: str | int) -> Future[tuple[str, int]]: ...
    def find(
        self, query: str, limit: int
    ) -> Future[list[tuple[str, str | None, list[str], float]]]: ...
    def set_public(self, public: bool) -> Future[None]: ...
    def set_capabilities(self, capabilities: list[str]) -> Future[None]: ...
    def forget(self, peer: str | int) -> bool: ...
    def send(
        self,
        bridge: Bridge,
        token: int,
        peer: str | int,
        kind: str,
        data: bytes | bytearray,
        headers: _Headers,
        traffic: _Traffic,
        seconds: float | None,
    ) -> tuple[Op | None, None]: ...
    def send_file(
        self, bridge: Bridge, token: int, peer: str | int, path: Path, seconds: float | None
    ) -> tuple[Op | None, None]: ...
    def request(
        self,
        bridge: Bridge,
        token: int,
        peer: str | int,
        kind: str,
        data: bytes | bytearray,
        headers: _Headers,
        traffic: _Traffic,
        seconds: float | None,
    ) -> tuple[Op | None, _Reply | None]: ...
    def ping(
        self, bridge: Bridge, token: int, peer: str | int, seconds: float | None
    ) -> tuple[Op | None, _Pong | None]: ...
    def path(
        self, bridge: Bridge, token: int, peer: str | int, seconds: float | None
    ) -> tuple[Op | None, _PathInfo | None]: ...
    def events(self) -> Events: ...
    def set_path_policy(self, peer: str | int | None, policy: _Policy) -> Future[None]: ...
    def open_stream(
        self,
        bridge: Bridge,
        token: int,
        peer: str | int,
        port: int,
        nodelay: bool,
        traffic: _Traffic,
        seconds: float | None,
    ) -> tuple[Op | None, Stream | None]: ...
    def send_datagram(
        self,
        bridge: Bridge,
        token: int,
        peer: str | int,
        source_port: int,
        port: int,
        data: bytes | bytearray,
    ) -> tuple[Op | None, None]: ...
    def listen(self, port: int) -> Listener: ...
    def bind_datagrams(self, port: int) -> DatagramPort: ...
    def poll_message(self, alarm: Alarm) -> _Message | None: ...
    def set_serving(self, on: bool) -> None: ...
    def poll_messages(self, alarm: Alarm, limit: int) -> list[_Message]: ...
    def poll_requests(self, alarm: Alarm, limit: int) -> list[_Request]: ...
    def reply(self, ticket: int, kind: str, data: bytes | bytearray) -> bool: ...
    def reply_error(self, ticket: int, reason: str) -> None: ...
    def descriptor(self) -> int: ...
    def attend(self, bridge: Bridge) -> bool: ...
    def send_gathered(self) -> None: ...
    def poll_attend(self, alarm: Alarm) -> bool: ...
    def close(self) -> Future[None]: ...

@final
class Trust:
    def __new__(cls, node: Node) -> Trust: ...
    def request(
        self, bridge: Bridge, token: int, peer: str | int, reason: str, seconds: float | None
    ) -> tuple[Op | None, _TrustAnswer | None]: ...
    def pending(self) -> list[tuple[str, str | None, bytes, str, int]]: ...
    def trusted(self) -> list[tuple[str, str | None, bytes, int, bool]]: ...
    def approve(self, peer: str | int) -> Future[None]: ...
    def reject(self, peer: str | int, reason: str) -> Future[None]: ...
    def revoke(self, peer: str | int) -> Future[None]: ...

@final
class Simulation:
    def __new__(cls, node: Node, options: dict[str, Any]) -> Simulation: ...
    def needs_aim(self) -> bool: ...
    def aim(self) -> Future[None]: ...
    def counters(self) -> _Counters: ...
    def stop(self) -> _Counters: ...

@final
class Stream:
    def set_traffic(self, name: _Traffic) -> None: ...
    def set_congestion(self, name: str) -> None: ...
    @property
    def peer(self) -> str: ...
    @property
    def local_port(self) -> int: ...
    @property
    def remote_port(self) -> int: ...
    def try_read(self, limit: int) -> bytes | None: ...
    def poll_readable(self, alarm: Alarm) -> bool: ...
    def try_read_into(self, buffer: Buffer) -> int | None: ...
    def try_write(self, data: Buffer, offset: int) -> int: ...
    def poll_writable(self, alarm: Alarm) -> bool: ...
    def poll_drained(self, alarm: Alarm) -> bool: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def stats(self) -> _StreamStats: ...

@final
class Listener:
    @property
    def port(self) -> int: ...
    def poll_accept(self, alarm: Alarm) -> Stream | None: ...
    def close(self) -> None: ...

@final
class DatagramPort:
    @property
    def port(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def poll_recv(self, alarm: Alarm) -> tuple[str, int, bytes] | None: ...
    def close(self) -> None: ...

@final
class Events:
    @property
    def dropped(self) -> int: ...
    def poll_event(self, alarm: Alarm) -> _Event | None: ...
    def close(self) -> None: ...

@final
class Rendezvous:
    @property
    def address(self) -> str: ...
    @property
    def tls_address(self) -> str | None: ...
    @property
    def fingerprint(self) -> str | None: ...
    def close(self) -> Future[None]: ...

def start_node(
    bridge: Bridge, token: int, hostname: str | None, options: dict[str, Any]
) -> tuple[Op | None, Node | None]: ...
def start_rendezvous(
    bridge: Bridge,
    token: int,
    listen: str,
    store: Path | None,
    tls_listen: str | None,
    certificate: tuple[Path, Path] | None,
    peers: list[str],
    advertise: str | None,
) -> tuple[Op | None, Rendezvous | None]: ...
def shutdown() -> None: ...
def process() -> int: ...
def after_fork() -> None: ...

"""How packets travel: what is known of paths, what is wanted of them, and when they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ._bridge import Signal
from .errors import InvalidArgument, NodeClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from typing_extensions import Self

    from . import _native
    from ._bridge import Scope

__all__ = [
    "Candidate",
    "Events",
    "NatInfo",
    "NetworkChanged",
    "PathChanged",
    "PathInfo",
    "PathPolicy",
    "PathReport",
    "Route",
]

PathKind: TypeAlias = Literal["direct", "relay"]
"""From socket to socket, or through the beacon of the rendezvous, encrypted end to end."""

PathState: TypeAlias = Literal["unknown", "probing", "valid", "suspect", "dead"]
ClassRule: TypeAlias = Literal["any", "direct-only", "duplicate"]
Traffic: TypeAlias = Literal["normal", "bulk", "control"]
"""What a stream or a message is, for `PathPolicy`."""

CandidateKind: TypeAlias = Literal["host", "observed", "mapped", "configured"]
Behavior: TypeAlias = Literal[
    "unknown", "open", "endpoint-independent", "address-dependent", "address-and-port-dependent"
]

_RULES = ("any", "direct-only", "duplicate")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPolicy:
    """Which paths may be used, and what for. Without one, the best path carries everything.

    The three classes are what ``traffic=`` says where a stream is opened or something is sent. The
    rules: ``"any"`` takes the best path; ``"direct-only"`` never the relay, and waits as long as
    there is no direct path; ``"duplicate"`` the best two at once, so that what one loses comes by
    the other, for twice the traffic.

    Attributes:
        direct: Direct paths are tried, and peers are told this node's addresses. Without, nobody
            but the rendezvous learns where this node is.
        relay: The relay of the rendezvous is used.
        lan_only: Direct paths lead to addresses of local networks only.
        normal: What `traffic="normal"`, the default, may take.
        bulk: What `traffic="bulk"` may take, and files.
        control: What `traffic="control"` may take.

    Example:
        >>> PathPolicy(bulk="direct-only")  # much data never goes over the relay
        >>> PathPolicy(control="duplicate")  # what must arrive soon goes two ways at once
        >>> PathPolicy(direct=False)  # peers do not learn our address
        >>> PathPolicy(lan_only=True, relay=False)  # nothing leaves the local network
    """

    direct: bool = True
    relay: bool = True
    lan_only: bool = False
    normal: ClassRule = "any"
    bulk: ClassRule = "any"
    control: ClassRule = "any"

    def __post_init__(self) -> None:
        """Refuses what leaves no path.

        Raises:
            InvalidArgument: Neither direct paths nor the relay, or a rule that there is not.
        """
        if not (self.direct or self.relay):
            message = "a policy without direct paths and without the relay leaves no path"
            raise InvalidArgument(message)
        for name in ("normal", "bulk", "control"):
            if getattr(self, name) not in _RULES:
                message = f"{name} is one of {', '.join(_RULES)}, not {getattr(self, name)!r}"
                raise InvalidArgument(message)


@dataclass(frozen=True, slots=True)
class Route:
    """Which way packets go.

    Attributes:
        kind: ``"direct"`` from socket to socket, or ``"relay"`` through the beacon.
        endpoint: The UDP address they are sent to.
    """

    kind: PathKind
    endpoint: str | None

    def __str__(self) -> str:
        return self.kind if self.endpoint is None else f"{self.kind} via {self.endpoint}"


@dataclass(frozen=True, slots=True)
class PathReport:
    """One path to a peer.

    Attributes:
        kind: ``"direct"`` from socket to socket, or ``"relay"`` through the beacon.
        endpoint: The UDP address that packets are sent to.
        state: ``"valid"`` carries packets both ways, ``"probing"`` is being tried, ``"suspect"``
            should have answered and has not, ``"dead"`` does not answer.
        active: Whether it is the one in use.
        rtt: Smoothed round-trip time in seconds, once measured.
        loss: Share of packets that it lost of late, from 0 to 1, once measured.
        mtu: Bytes of UDP payload that it carries, once something large went there.
        last_received: When the last packet came by it, in seconds since 1970.
    """

    kind: PathKind
    endpoint: str | None
    state: PathState
    active: bool
    rtt: float | None
    loss: float | None
    mtu: int | None
    last_received: float | None


@dataclass(frozen=True, slots=True)
class PathInfo:
    """How packets for a peer travel.

    Attributes:
        address: The peer.
        kind: ``"direct"`` from socket to socket, or ``"relay"`` through the beacon.
        endpoint: The UDP address that packets are sent to.
        local: The UDP address that they are sent from.
        rtt: Smoothed round-trip time in seconds, once measured.
        loss: Share of packets lost of late, from 0 to 1, once measured.
        mtu: Bytes of UDP payload that the path carries, once something large went there.
        since: When it came into use, in seconds since 1970, where that was noticed.
        last_received: When the last packet came by it, in seconds since 1970.
        candidates: All paths that are known, the one in use first.
    """

    address: str
    kind: PathKind
    endpoint: str | None
    local: str
    rtt: float | None
    loss: float | None
    mtu: int | None
    since: float | None
    last_received: float | None
    candidates: tuple[PathReport, ...]


@dataclass(frozen=True, slots=True)
class NatInfo:
    """What stands between a node and the others, in the words of RFC 4787 and RFC 5780.

    Attributes:
        description: All of it in a few words.
        mapping: To whom the same outside port is shown; ``"open"`` without a NAT.
        filtering: Whose packets come in; ``"open"`` without a filter.
        hairpins: Whether two inside can talk by their outside addresses, where known.
        ports: How outside ports are chosen: ``"preserving"``, ``"sequential (+1)"``,
            ``"random"`` or ``"unknown"``.
        mapping_lifetime: Seconds that a mapping lasts which nobody uses, once measured.
    """

    description: str
    mapping: Behavior
    filtering: Behavior
    hairpins: bool | None
    ports: str
    mapping_lifetime: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address of this node that peers may try.

    Attributes:
        address: The UDP address.
        kind: ``"host"`` of an interface, ``"observed"`` by the rendezvous, ``"mapped"`` by the
            router on request, or ``"configured"`` by the user.
    """

    address: str
    kind: CandidateKind


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Packets for a peer go another way.

    Attributes:
        at: When, in seconds since 1970.
        peer: The peer's address.
        hostname: Its hostname, where known.
        old: How they went; `None` if they did not.
        new: How they go.
    """

    at: float
    peer: str
    hostname: str | None
    old: Route | None
    new: Route


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """Where others may reach this node has changed; `Node.info` tells the rest.

    Attributes:
        at: When, in seconds since 1970.
        observed_addr: The UDP address that the rendezvous sees; `None` until it answers again.
    """

    at: float
    observed_addr: str | None


Event: TypeAlias = PathChanged | NetworkChanged


class Events:
    """What happens to a node's paths and network; `Node.events` makes one.

    Each of several gets every event. One that nobody reads keeps the newest 1024.

    Example:
        >>> async with node.events() as events:
        ...     async for event in events:
        ...         if isinstance(event, PathChanged):
        ...             print(f"{event.peer}: {event.new}")
    """

    def __init__(self, scope: Scope, native: _native.Events) -> None:
        self._native = native
        self._happened = Signal(scope)

    @property
    def dropped(self) -> int:
        """How many events were dropped because nobody took them in time."""
        return self._native.dropped

    async def next(self) -> Event:
        """Waits for an event. A cancelled call loses none.

        Returns:
            A `PathChanged` or a `NetworkChanged`.

        Raises:
            NodeClosed: The node was closed, or this was.
        """
        return _event(await self._happened.take(self._native.poll_event))

    def close(self) -> None:
        """Ends it, and waiting `next` calls. Idempotent."""
        self._native.close()
        self._happened.wake()

    async def __aenter__(self) -> Self:
        """Returns it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterates over the events; ends when the node is closed."""
        return self

    async def __anext__(self) -> Event:
        """Returns the next event."""
        try:
            return await self.next()
        except NodeClosed:
            raise StopAsyncIteration from None


def policy_parts(policy: PathPolicy) -> _native._Policy:
    """Returns a policy as the native half takes it."""
    return (
        policy.direct,
        policy.relay,
        policy.lan_only,
        policy.normal,
        policy.bulk,
        policy.control,
    )


def path_info(parts: _native._PathInfo) -> PathInfo:
    """Returns what the native half tells of the paths to a peer."""
    address, local, since, paths = parts
    reports = tuple(PathReport(*path) for path in paths)
    used = reports[0]
    return PathInfo(
        address=address,
        kind=used.kind,
        endpoint=used.endpoint,
        local=local,
        rtt=used.rtt,
        loss=used.loss,
        mtu=used.mtu,
        since=since,
        last_received=used.last_received,
        candidates=reports,
    )


def _event(parts: _native._Event) -> Event:
    if parts[0] == "network":
        return NetworkChanged(*parts[1:])
    _, at, peer, hostname, old, new = parts
    return PathChanged(at, peer, hostname, None if old is None else Route(*old), Route(*new))


for _name in __all__:
    globals()[_name].__module__ = "pilot_agent"
del _name

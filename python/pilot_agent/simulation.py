"""Bad networks on demand: what a node's datagrams meet, for programs that test their agents."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _native
from .errors import NodeClosed, PilotError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from typing_extensions import Self

    from ._bridge import Scope

__all__ = ["LinkCounters", "Simulation", "SimulationCounters"]

logger = logging.getLogger("pilot_agent")


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What has happened to datagrams in one direction.

    Attributes:
        sent: Met the simulation.
        delivered: Got through, copies included.
        lost: Lost.
        dropped: Found no room in the queue in front of a limited rate.
        too_big: Larger than the MTU.
        blocked: Of a kind that is blocked.
        duplicated: Doubled.
        reordered: Held back while others overtook them.
    """

    sent: int
    delivered: int
    lost: int
    dropped: int
    too_big: int
    blocked: int
    duplicated: int
    reordered: int


@dataclass(frozen=True, slots=True)
class SimulationCounters:
    """What a simulation has done.

    Attributes:
        outgoing: To datagrams that the node sent.
        incoming: To datagrams that were sent to it.
    """

    outgoing: LinkCounters
    incoming: LinkCounters


class Simulation:
    """A bad network that a node is in; `Node.simulate` begins it.

    It lasts until `stop`, the end of ``with`` or ``async with``, or the end of the node.

    Example:
        >>> with node.simulate(loss=0.1, delay=0.05) as simulation:
        ...     await node.send("bob", "hello")
        ...     print(simulation.counters().outgoing.lost)
    """

    def __init__(self, scope: Scope, native: _native.Node, options: dict[str, Any]) -> None:
        self._scope = scope
        self._native = _native.Simulation(native, options)
        self._shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        self._is_active = True
        self._aiming: asyncio.Task[None] | None = None
        if self._native.needs_aim():
            self._aiming = scope.loop.create_task(self._aim())
            self._aiming.add_done_callback(_observe)

    @property
    def is_active(self) -> bool:
        """Whether the node's datagrams still meet it."""
        return self._is_active and not self._scope.is_closed

    def counters(self) -> SimulationCounters:
        """Returns what it has done so far; after its end, what it did."""
        return _counters(self._native.counters())

    def stop(self) -> SimulationCounters:
        """Ends it: datagrams on their way arrive at once. Idempotent.

        Returns:
            What it did.
        """
        self._is_active = False
        if self._aiming is not None:
            self._aiming.cancel()
        return _counters(self._native.stop())

    async def _aim(self) -> None:
        await self._native.aim()

    def __enter__(self) -> Self:
        """Returns the simulation, which is in force."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Returns the simulation; the hostname of its peer has been looked up.

        Raises:
            PeerNotFound: No such hostname.
        """
        if self._aiming is not None:
            try:
                await self._aiming
            except BaseException:
                self.stop()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it."""
        self.stop()

    def __repr__(self) -> str:
        state = "" if self.is_active else " over"
        return f"<pilot_agent.Simulation {self._shown}{state}>"


def _counters(parts: _native._Counters) -> SimulationCounters:
    outgoing, incoming = parts
    return SimulationCounters(LinkCounters(*outgoing), LinkCounters(*incoming))


def _observe(aiming: asyncio.Task[None]) -> None:
    """Says that a simulation has no effect, where nobody awaits that."""
    if aiming.cancelled():
        return
    error = aiming.exception()
    if isinstance(error, PilotError) and not isinstance(error, NodeClosed):
        logger.warning("a simulation has no effect: %s", error)


for _name in __all__:
    globals()[_name].__module__ = "pilot_agent"
del _name

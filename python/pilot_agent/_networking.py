"""Paths and networks: the half of `Node` that shows and shapes how packets travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ._base import Base
from .simulation import Simulation

if TYPE_CHECKING:
    from .message import Peer

__all__ = ["Networking"]

Block: TypeAlias = Literal["udp", "direct"]
Direction: TypeAlias = Literal["both", "in", "out"]


class Networking(Base):
    """Simulates networks."""

    def simulate(
        self,
        *,
        loss: float = 0.0,
        burst: float | None = None,
        delay: float = 0.0,
        jitter: float = 0.0,
        rate: float | str | None = None,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        mtu: int | None = None,
        block: Block | None = None,
        peer: Peer | None = None,
        direction: Direction = "both",
        seed: int = 0,
    ) -> Simulation:
        """Puts a bad network between this node and its UDP sockets, at once.

        It lasts until `Simulation.stop`, or the end of ``with`` or ``async with``. Datagrams pass
        every simulation that is meant for them, so several add up. The connection with the
        registry (TCP), and what goes over a WebSocket, does not meet it.

        Args:
            loss: Share of datagrams that are lost, from 0 to 1, in each direction.
            burst: Losses come in bursts of this many on average, instead of each for itself.
            delay: Seconds that a datagram takes longer, in each direction: with ``"both"`` a
                round trip takes twice as much.
            jitter: Up to so many seconds more, at random. Datagrams stay in order.
            rate: Bits per second in each direction, or a text such as ``"8mbit"``. What does not
                fit waits in a queue of one round trip, 64 kB at least, and beyond that is dropped.
            duplicate: Share of datagrams that arrive twice.
            reorder: Share of datagrams that are held back while others overtake them.
            mtu: Bytes of UDP payload that get through; larger datagrams vanish.
            block: ``"udp"``: no datagram gets through. ``"direct"``: only what the rendezvous
                relays.
            peer: Only datagrams to and from this peer meet it, relayed ones too; `None` for all.
                A hostname that this node has not used yet is looked up first; ``async with``
                waits for that.
            direction: ``"out"`` for what this node sends, ``"in"`` for what it receives.
            seed: What happens to the Nth datagram follows from it.

        Returns:
            The simulation, in force.

        Raises:
            InvalidArgument: A value makes no sense.
            NodeClosed: The node is closed.

        Example:
            >>> async with node.simulate(loss=0.03, delay=0.05, rate="8mbit"):
            ...     reply = await node.request("specialist-fx", {"pair": "EUR/USD"})
        """
        self._scope.check()
        options = {
            "loss": loss,
            "burst": burst,
            "delay": delay,
            "jitter": jitter,
            "rate": rate,
            "duplicate": duplicate,
            "reorder": reorder,
            "mtu": mtu,
            "block": block,
            "peer": peer,
            "direction": direction,
            "seed": seed,
        }
        # What a perfect network does needs no mention, here and in the simulation's `repr`.
        told = {name: value for name, value in options.items() if value not in (None, 0, "both")}
        return Simulation(self._scope, self._native, told)

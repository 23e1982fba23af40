"""Paths and networks: the half of `Node` that shows and shapes how packets travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ._base import Base
from .message import Pong
from .path import Events, path_info, policy_parts
from .simulation import Simulation

if TYPE_CHECKING:
    from .message import Peer
    from .path import PathInfo, PathPolicy

__all__ = ["Networking"]

Block: TypeAlias = Literal["udp", "direct"]
Direction: TypeAlias = Literal["both", "in", "out"]


class Networking(Base):
    """Shows paths and what happens to them, takes policies, simulates networks."""

    async def ping(self, peer: Peer, *, timeout: float | None = 5.0) -> Pong:
        """Measures the round trip to a peer.

        Args:
            peer: Hostname, address, or node id.
            timeout: Longest wait, in seconds; `None` for no limit.

        Returns:
            Time and path, and what is known of that path.

        Raises:
            RequestTimeout: No answer in time.
            PilotError: What `send` raises.
        """
        parts = await self._scope.run(
            lambda bridge, token: self._native.ping(bridge, token, peer, timeout)
        )
        return Pong(*parts)

    async def path(self, peer: Peer, *, timeout: float | None = 5.0) -> PathInfo:
        """Tells how packets for a peer travel. Where there is no tunnel yet, it makes one.

        Args:
            peer: Hostname, address, or node id.
            timeout: Longest wait, in seconds; `None` for no limit.

        Returns:
            The path in use, and the others that are known.

        Raises:
            RequestTimeout: The peer does not answer in time.
            PilotError: What `send` raises.

        Example:
            >>> path = await node.path("bob")
            >>> print(f"{path.kind} via {path.endpoint}, {path.rtt} s, {path.loss} lost")
        """
        parts = await self._scope.run(
            lambda bridge, token: self._native.path(bridge, token, peer, timeout)
        )
        return path_info(parts)

    def events(self) -> Events:
        """Watches paths and network, from now on.

        Returns:
            An async iterator and async context manager of `PathChanged` and `NetworkChanged`.

        Raises:
            NodeClosed: The node is closed.
        """
        self._scope.check()
        return Events(self._scope, self._native.events())

    async def set_path_policy(self, peer: Peer | None, policy: PathPolicy) -> None:
        """Says which paths may be used, and what for. Takes effect at once.

        Args:
            peer: Whom it is for; `None` for all that have no policy of their own.
            policy: The policy.

        Raises:
            PeerNotFound: No such hostname.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.set_path_policy(peer, policy_parts(policy))

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

"""Networks for tests: a rendezvous and nodes on loopback, with nothing left behind."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .node import Node
from .rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

    from .simulation import Simulation

__all__ = ["LocalNetwork"]


class LocalNetwork:
    """A rendezvous on a free port of loopback, and any number of nodes.

    Leaving ``async with`` closes all of it and removes its files.

    Example:
        >>> async with LocalNetwork() as network:
        ...     alice, bob = await network.nodes("alice", "bob")
        ...     await alice.send("bob", "hello")
        ...     assert (await bob.recv()).text() == "hello"
    """

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._rendezvous: Rendezvous | None = None
        self._directory: Path | None = None
        self._nodes: list[Node] = []

    @property
    def rendezvous(self) -> str:
        """Address of the rendezvous, as `Node.start` takes it."""
        if self._rendezvous is None:
            message = "enter the network first: async with LocalNetwork() as network"
            raise RuntimeError(message)
        return self._rendezvous.address

    @property
    def home(self) -> Path:
        """Directory of the nodes' identities."""
        if self._directory is None:
            message = "enter the network first: async with LocalNetwork() as network"
            raise RuntimeError(message)
        return self._directory

    async def node(self, hostname: str | None = None, **options: Any) -> Node:
        """Starts a node; the network closes it, if nobody did before.

        Args:
            hostname: Its hostname.
            **options: What `Node.start` takes; `rendezvous`, `home` and `listen` have defaults
                that keep the node on loopback.

        Returns:
            The node.
        """
        defaults = {
            "rendezvous": self.rendezvous,
            "home": self.home,
            "listen": "127.0.0.1:0",
        }
        node = await Node.start(hostname, **{**defaults, **options})
        self._nodes.append(node)
        return await self._stack.enter_async_context(node)

    async def nodes(self, *hostnames: str) -> tuple[Node, ...]:
        """Starts several nodes.

        Args:
            *hostnames: Their hostnames.

        Returns:
            The nodes, in the same order.
        """
        return tuple([await self.node(hostname) for hostname in hostnames])

    @contextlib.contextmanager
    def simulate(self, *, seed: int = 0, **conditions: Any) -> Iterator[tuple[Simulation, ...]]:
        """Puts a bad network between the nodes that were started so far, until the end of ``with``.

        Each node is in one of its own, for what it sends: a datagram from one to another meets
        one of them, and a round trip two.

        Args:
            seed: What happens to datagrams follows from it, differently for each node.
            **conditions: What `Node.simulate` takes.

        Yields:
            The simulations, in the order in which the nodes were started.

        Example:
            >>> with network.simulate(loss=0.03, delay=0.02):
            ...     await alice.request("bob", "still there?")
        """
        with contextlib.ExitStack() as stack:
            open_nodes = [node for node in self._nodes if not node.is_closed]
            yield tuple(
                stack.enter_context(
                    node.simulate(**{"direction": "out", **conditions}, seed=seed + number)
                )
                for number, node in enumerate(open_nodes)
            )

    async def __aenter__(self) -> Self:
        """Starts the rendezvous."""
        directory = tempfile.TemporaryDirectory(prefix="pilot-", ignore_cleanup_errors=True)
        self._directory = Path(self._stack.enter_context(directory))
        try:
            self._rendezvous = await self._stack.enter_async_context(
                Rendezvous.start("127.0.0.1:0")
            )
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the nodes, then the rendezvous."""
        await self._stack.aclose()

"""The node: one agent's presence on the network."""

from __future__ import annotations

import asyncio
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _native
from ._base import DEFAULT_TIMEOUT
from ._bridge import Scope
from ._connecting import Connecting
from ._messaging import Messaging
from ._networking import Networking
from ._opening import Opening
from .config import home_directory, settings
from .errors import InvalidArgument
from .message import AgentInfo, NodeInfo, PeerInfo
from .path import Candidate, NatInfo, policy_parts
from .trust import Trust

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from .message import Peer
    from .path import PathPolicy
    from .stream import Congestion

__all__ = ["Node"]


class Node(Messaging, Connecting, Networking):
    """A node of the network; `start` makes one.

    A node belongs to the event loop it was started in. Its methods may be called by any number of
    that loop's tasks, and every ``await`` may be cancelled. Leaving ``async with`` closes it.

    Example:
        >>> async with Node.start("coordinator") as node:
        ...     reply = await node.request("specialist-fx", {"pair": "EUR/USD"})
        ...     print(reply.json())
    """

    @classmethod
    def start(
        cls,
        hostname: str | None = None,
        *,
        rendezvous: str | None = None,
        home: str | os.PathLike[str] | None = None,
        listen: str | None = None,
        public_endpoint: str | None = None,
        port_mapping: bool | None = None,
        public: bool | None = None,
        capabilities: Sequence[str] = (),
        inbox: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        peer_timeout: float | None = None,
        heartbeat: float | None = None,
        max_message: int | None = None,
        inbox_limit: int | None = None,
        congestion: Congestion | None = None,
        paths: PathPolicy | None = None,
    ) -> Opening[Self]:
        """Starts a node: ``await`` it, or enter it with ``async with``.

        What is left open is looked up as `pilot_agent.config` says.

        Args:
            hostname: Name that others find this node by; `None` for a node that only calls.
                Each hostname has an identity of its own, and keeps its address.
            rendezvous: ``host:port``, ``registry=host:port,beacon=host:port``, or ``embedded``:
                one that the first node of this machine hosts. ``,pin=sha256:<hex>`` behind an
                address pins its certificate, and ``,compat=wss://host:port/path`` says where its
                WebSocket is, if not on the registry's port.
            home: Directory of identities and pinned keys.
            listen: UDP address to bind, such as ``"127.0.0.1:4000"`` or ``":4000"``.
            public_endpoint: Address under which others reach this node from outside, such as
                ``"192.0.2.1:4000"``, where it cannot be found out: a port forwarded by hand.
            port_mapping: Whether the router may be asked to forward a port to this node; by
                default it is.
            public: Whether every agent may find this one and connect.
            capabilities: What this agent can do, in words that others search for; at most 16 of
                at most 64 bytes.
            inbox: Directory that received files go to.
            timeout: Longest time that starting may take, in seconds.
            peer_timeout: Silence, in seconds, after which a peer that something is wanted of
                counts as lost.
            heartbeat: Seconds between two signs of life to the rendezvous.
            max_message: Largest message that this node takes, in bytes.
            inbox_limit: Bytes of messages that wait to be taken; more are not acknowledged.
            congestion: What decides how fast this node's streams send: ``"bbr"`` (the default),
                ``"cubic"`` or ``"newreno"``; see ``docs/performance.md``.
            paths: Which paths may be used, and what for, with peers that have no policy of their
                own (`set_path_policy`).

        Returns:
            The node, once awaited or entered.

        Raises:
            HostnameTaken: The hostname belongs to another identity.
            IdentityInUse: Another process runs with this identity.
            IdentityError: The identity cannot be read or written.
            RegistryError: The rendezvous cannot be reached, hangs, or answers nonsense.
            InvalidArgument: An option makes no sense.
            LocalError: The UDP address cannot be bound.
        """
        if isinstance(capabilities, str):
            message = "capabilities is a sequence of texts, not one text"
            raise InvalidArgument(message)
        options = {
            "rendezvous": rendezvous,
            "listen": listen,
            "public_endpoint": public_endpoint,
            "port_mapping": port_mapping,
            "public": public,
            "capabilities": list(capabilities),
            "inbox": inbox,
            "timeout": timeout,
            "peer_timeout": peer_timeout,
            "heartbeat": heartbeat,
            "max_message": max_message,
            "inbox_limit": inbox_limit,
            "congestion": congestion,
            "paths": None if paths is None else policy_parts(paths),
        }
        return Opening(partial(cls._start, hostname, home_directory(home), options))

    @classmethod
    async def _start(cls, hostname: str | None, home: Path, options: dict[str, Any]) -> Self:
        options = settings(home, options)
        scope = Scope()
        try:
            native = await scope.run(
                lambda bridge, token: _native.start_node(bridge, token, hostname, options),
                join=True,
            )
            return cls(scope, native)
        except BaseException:
            scope.close()
            raise

    @property
    def address(self) -> str:
        """Address on the network, such as ``0:0000.A91F.7C2E``."""
        return self._address

    @property
    def node_id(self) -> int:
        """The address as a number."""
        return self._node_id

    @property
    def hostname(self) -> str | None:
        """Hostname, if it has one."""
        return self._hostname

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key, 32 bytes."""
        return self._public_key

    @property
    def trust(self) -> Trust:
        """Who may find and reach this node although it is private."""
        return Trust(self._scope, self._native)

    def info(self) -> NodeInfo:
        """Returns what the node knows of itself.

        Raises:
            NodeClosed: The node is closed.
        """
        nat, candidates = self._native.network()
        known = tuple(Candidate(*candidate) for candidate in candidates)
        return NodeInfo(**self._native.info(), nat=NatInfo(*nat), candidates=known)

    def peers(self) -> list[PeerInfo]:
        """Returns the peers that this node has a tunnel with, or is making one.

        Raises:
            NodeClosed: The node is closed.
        """
        return [PeerInfo(**fields) for fields in self._native.peers()]

    async def find(self, query: str, *, limit: int = 10) -> list[AgentInfo]:
        """Finds agents by what they can do.

        Args:
            query: Words, such as ``"academic citations"``.
            limit: Most agents to return.

        Returns:
            Public agents that are online, best first.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            Unsupported: The rendezvous is not one of ours.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        return [
            AgentInfo(address, hostname, tuple(capabilities), score)
            for address, hostname, capabilities, score in await self._native.find(query, limit)
        ]

    async def resolve(self, peer: Peer) -> str:
        """Looks a peer up.

        Args:
            peer: Hostname, address, or node id.

        Returns:
            Its address.

        Raises:
            PeerNotFound: No such hostname or node.
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        address, _node_id = await self._native.resolve(peer)
        return address

    async def set_public(self, public: bool) -> None:
        """Says whether every agent may find this one and connect.

        Args:
            public: Whether.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.set_public(public)

    async def set_capabilities(self, capabilities: Sequence[str]) -> None:
        """Says what this agent can do.

        Args:
            capabilities: At most 16 texts of at most 64 bytes.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.set_capabilities(list(capabilities))

    def forget(self, peer: Peer) -> bool:
        """Forgets the key that was pinned for a peer, so that a new one is accepted.

        Do this only when its owner has told you that the key changed.

        Args:
            peer: Address, node id, or hostname.

        Returns:
            Whether there was one.
        """
        return self._native.forget(peer)

    async def close(self) -> None:
        """Ends the node; waiting calls raise `NodeClosed`, handlers are cancelled.

        Afterwards nothing of it is left: no task, no thread, no descriptor. Idempotent; closing
        goes on when the caller is cancelled.
        """
        if self._scope.is_closed:
            return
        if self._closing is None:
            self._scope.check()
            self._closing = self._scope.loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        """Returns the node."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        await self.close()

    def __repr__(self) -> str:
        state = " closed" if self.is_closed else ""
        name = f" {self._hostname}" if self._hostname else ""
        return f"<pilot_agent.Node {self._address}{name}{state}>"

    def __del__(self) -> None:
        scope = getattr(self, "_scope", None)
        if scope is not None and not scope.is_closed and scope.is_ours:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)

    async def _close(self) -> None:
        try:
            await asyncio.gather(*(dispatcher.stop() for dispatcher in self._dispatchers))
            self._attendance.stop()
            await self._native.close()
        finally:
            self._attendance.stop()
            self._scope.close()


Node.__module__ = "pilot_agent"

"""The rendezvous: where nodes register and find each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import _native
from ._bridge import Scope
from ._opening import Opening
from .errors import InvalidArgument

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Rendezvous"]


class Rendezvous:
    """A rendezvous server in this process: registry over TCP and beacon over UDP, on one port.

    The TCP port also speaks TLS and WebSocket, for agents in networks that block UDP.

    Nodes of one machine need none: the first of them hosts one. Run one, with ``pilot
    rendezvous`` or this class, when nodes are on several machines.

    Example:
        >>> async with Rendezvous.start("127.0.0.1:0") as rendezvous:
        ...     async with Node.start("alice", rendezvous=rendezvous.address) as node:
        ...         print(node.address)
    """

    def __init__(self, scope: Scope, native: _native.Rendezvous) -> None:
        self._scope = scope
        self._native = native
        self._address = native.address

    @classmethod
    def start(
        cls,
        listen: str = "127.0.0.1:7470",
        *,
        store: str | os.PathLike[str] | None = None,
        tls_listen: str | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        peers: Iterable[str] = (),
        advertise: str | None = None,
    ) -> Opening[Self]:
        """Starts a rendezvous: ``await`` it, or enter it with ``async with``.

        Args:
            listen: ``host:port``, TCP and UDP; port 0 takes a free one.
            store: File of the database; `None` keeps everything in memory only.
            tls_listen: One more TCP address, e.g. ``0.0.0.0:443``, for agents whose networks let
                nothing else through.
            tls_cert: The certificate chain for TLS (PEM). By default the rendezvous makes its own
                and keeps it beside the database; agents learn its fingerprint as they register.
            tls_key: The key of `tls_cert` (PEM); by default in the same file.
            peers: The other rendezvous of a cluster, ``host:port`` each. Agents at one are then
                relayed to agents at another.
            advertise: ``host:port`` by which agents know this one, for the list of a cluster's
                beacons; by default `listen`, unless that is ``0.0.0.0`` or ``[::]``.

        Returns:
            The rendezvous, once awaited or entered.

        Raises:
            LocalError: The address cannot be bound, or the file cannot be used.
            InvalidArgument: `listen` is no address.
        """
        if tls_key is not None and tls_cert is None:
            msg = "tls_key is of no use without tls_cert"
            raise InvalidArgument(msg)
        files = None
        if tls_cert is not None:
            files = (Path(tls_cert), Path(tls_cert if tls_key is None else tls_key))
        path = None if store is None else Path(store)
        others = list(peers)

        def begin(
            bridge: _native.Bridge, token: int
        ) -> tuple[_native.Op | None, _native.Rendezvous | None]:
            return _native.start_rendezvous(
                bridge, token, listen, path, tls_listen, files, others, advertise
            )

        return Opening(partial(cls._start, begin))

    @classmethod
    async def _start(
        cls,
        begin: Callable[[_native.Bridge, int], tuple[_native.Op | None, _native.Rendezvous | None]],
    ) -> Self:
        scope = Scope()
        try:
            return cls(scope, await scope.run(begin, join=True))
        except BaseException:
            scope.close()
            raise

    @property
    def address(self) -> str:
        """``host:port``, as `Node.start` takes it."""
        return self._address

    @property
    def tls_address(self) -> str | None:
        """``host:port`` of `tls_listen`, as it was bound."""
        return self._native.tls_address

    @property
    def fingerprint(self) -> str | None:
        """``sha256:<hex>`` of its certificate, by which an agent can pin it."""
        return self._native.fingerprint

    async def close(self) -> None:
        """Ends the rendezvous. Idempotent."""
        if self._scope.is_closed:
            return
        try:
            await self._native.close()
        finally:
            self._scope.close()

    async def __aenter__(self) -> Self:
        """Returns the rendezvous."""
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
        state = " closed" if self._scope.is_closed else ""
        return f"<pilot_agent.Rendezvous {self._address}{state}>"


Rendezvous.__module__ = "pilot_agent"

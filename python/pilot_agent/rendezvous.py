"""The rendezvous: where nodes register and find each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import _native
from ._bridge import Scope
from ._opening import Opening

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Rendezvous"]


class Rendezvous:
    """A rendezvous server in this process: registry over TCP and beacon over UDP, on one port.

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
        cls, listen: str = "127.0.0.1:7470", *, store: str | os.PathLike[str] | None = None
    ) -> Opening[Self]:
        """Starts a rendezvous: ``await`` it, or enter it with ``async with``.

        Args:
            listen: ``host:port``, TCP and UDP; port 0 takes a free one.
            store: File of the database; `None` keeps everything in memory only.

        Returns:
            The rendezvous, once awaited or entered.

        Raises:
            LocalError: The address cannot be bound, or the file cannot be used.
            InvalidArgument: `listen` is no address.
        """
        return Opening(partial(cls._start, listen, None if store is None else Path(store)))

    @classmethod
    async def _start(cls, listen: str, store: Path | None) -> Self:
        scope = Scope()
        try:
            native = await scope.run(
                lambda bridge, token: _native.start_rendezvous(bridge, token, listen, store),
                join=True,
            )
            return cls(scope, native)
        except BaseException:
            scope.close()
            raise

    @property
    def address(self) -> str:
        """``host:port``, as `Node.start` takes it."""
        return self._address

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

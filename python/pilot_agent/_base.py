"""What the halves of `Node` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._attend import Attendance

if TYPE_CHECKING:
    import asyncio

    from . import _native
    from ._bridge import Scope
    from ._dispatch import Dispatcher

__all__ = ["DEFAULT_TIMEOUT", "Base"]

DEFAULT_TIMEOUT = 10.0


class Base:
    """A native node and the scope on the loop that it belongs to."""

    def __init__(self, scope: Scope, native: _native.Node) -> None:
        self._scope = scope
        self._native = native
        self._dispatchers: list[Dispatcher[Any]] = []
        self._attendance = Attendance(scope, native)
        self._closing: asyncio.Task[None] | None = None
        self._address, self._node_id, self._hostname, self._public_key = native.identity()

    @property
    def is_closed(self) -> bool:
        """Whether the node is closed, or being closed."""
        return self._closing is not None or self._scope.is_closed

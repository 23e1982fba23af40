"""Objects that are opened by ``await`` or by ``async with``, as the caller likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType

__all__ = ["Opening"]


class _Closable(Protocol):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


T = TypeVar("T", bound=_Closable)


class Opening(Generic[T]):
    """What an opener returns: ``await`` it to get the object, or enter it to also close it.

    Nothing happens before one of the two.
    """

    __slots__ = ("_open", "_opened")

    def __init__(self, open_: Callable[[], Coroutine[object, object, T]]) -> None:
        self._open = open_
        self._opened: T | None = None

    def __await__(self) -> Generator[object, object, T]:
        """Opens and leaves the closing to the caller."""
        return self._open().__await__()

    async def __aenter__(self) -> T:
        """Opens."""
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(kind, error, traceback)

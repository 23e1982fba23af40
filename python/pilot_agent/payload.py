"""What can be sent: bytes, text, or anything JSON takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Buffer

__all__ = ["JSON", "Kind", "Payload", "encode"]

JSON: TypeAlias = "bool | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""Anything that JSON takes. Dataclasses and dates do not go by themselves."""

Payload: TypeAlias = "Buffer | JSON"
"""`bytes` (or any buffer) and `str` travel as they are; everything else as JSON."""

Kind: TypeAlias = Literal["bytes", "text", "json", "file"]
"""What a payload was when it was sent."""


def encode(payload: Payload) -> tuple[str, bytes | bytearray]:
    """Turns a payload into its kind and its bytes.

    Args:
        payload: What the user sends.

    Returns:
        ``"bytes"``, ``"text"`` or ``"json"``, and the bytes that travel.

    Raises:
        TypeError: JSON has no such type.
        ValueError: JSON has no such value (a NaN, a circular list).
    """
    if isinstance(payload, (bytes, bytearray)):
        return "bytes", payload
    if isinstance(payload, str):
        return "text", payload.encode()
    if isinstance(payload, (dict, list, tuple, int, float, type(None))):
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return "json", text.encode()
    return "bytes", as_bytes(payload)


def as_bytes(data: object) -> bytes | bytearray:
    """Returns what any object with the buffer protocol holds; copies unless it is `bytes`.

    Args:
        data: `bytes`, `bytearray`, `memoryview`, `array.array`, ...

    Returns:
        The bytes.

    Raises:
        TypeError: `data` is no buffer.
    """
    if isinstance(data, (bytes, bytearray)):
        return data
    try:
        return memoryview(data).tobytes()  # type: ignore[arg-type]
    except TypeError:
        message = f"cannot send {type(data).__name__}: use bytes, str, or what JSON takes"
        raise TypeError(message) from None


def as_view(data: object) -> bytes | bytearray | memoryview:
    """Returns the bytes of any object with the buffer protocol; copies only if it must.

    Args:
        data: `bytes`, `bytearray`, `memoryview`, `array.array`, ...

    Returns:
        What `len` counts the bytes of.

    Raises:
        TypeError: `data` is no buffer.
    """
    if isinstance(data, (bytes, bytearray)):
        return data
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        message = f"cannot send {type(data).__name__}: use bytes or another buffer"
        raise TypeError(message) from None
    return view.cast("B") if view.c_contiguous else view.tobytes()


class _HasPayload(Protocol):
    @property
    def payload(self) -> bytes: ...


class Content:
    """Ways to look at a payload that has arrived."""

    __slots__ = ()

    def text(self: _HasPayload) -> str:
        """Returns the payload as text.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
        """
        return self.payload.decode()

    def json(self: _HasPayload) -> Any:
        """Returns the payload as a JSON value, whatever it was sent as.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.payload)

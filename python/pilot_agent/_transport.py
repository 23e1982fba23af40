"""An `asyncio.Transport` over one of our streams, for `Node.open_connection`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from .errors import NodeClosed
from .payload import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from . import _native
    from ._bridge import Scope

CHUNK: Final = 256 * 1024
HIGH_WATER: Final = 64 * 1024


class StreamTransport(asyncio.Transport):
    """Moves bytes between an asyncio protocol and a native stream, by callbacks alone.

    Works as asyncio's own socket transports do: it reads ahead unless paused, buffers what the
    stream does not take at once, and tells the protocol when that is too much.
    """

    def __init__(
        self,
        scope: Scope,
        native: _native.Stream,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any],
    ) -> None:
        super().__init__(extra)
        self._scope = scope
        self._native = native
        self._protocol = protocol
        self._read_token = scope.bridge.token()
        self._write_token = scope.bridge.token()
        self._read_alarm = scope.bridge.native.alarm(self._read_token)
        self._write_alarm = scope.bridge.native.alarm(self._write_token)
        self._pending = bytearray()
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._is_paused = False
        self._is_protocol_paused = False
        self._is_eof_wanted = False
        self._is_closing = False
        self._is_lost = False
        scope.on_close(self._on_node_closed)
        scope.loop.call_soon(protocol.connection_made, self)
        scope.loop.call_soon(self._read)

    def is_closing(self) -> bool:
        """Whether the transport is closed, or being closed."""
        return self._is_closing

    def close(self) -> None:
        """Stops reading, delivers what was written, then ends."""
        if self._is_closing:
            return
        self._is_closing = True
        self._scope.bridge.forget(self._read_token)
        if not self._pending:
            self._finish()

    def abort(self) -> None:
        """Ends at once; what was written may be lost."""
        self._lose(None, reset=True)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hands the stream to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Returns the protocol."""
        return self._protocol

    def is_reading(self) -> bool:
        """Whether received bytes go to the protocol."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Keeps received bytes back; the peer's window closes in time."""
        self._is_paused = True
        self._scope.bridge.forget(self._read_token)

    def resume_reading(self) -> None:
        """Undoes `pause_reading`."""
        if self._is_paused:
            self._is_paused = False
            self._scope.loop.call_soon(self._read)

    def write(self, data: Buffer) -> None:
        """Writes, or buffers what the stream does not take at once."""
        if self._is_eof_wanted:
            message = "cannot write after write_eof"
            raise RuntimeError(message)
        if self._is_closing:
            return  # as asyncio does: the protocol learns it from connection_lost
        data = as_bytes(data)
        if self._pending:
            self._pending += data
        else:
            taken = self._try_write(data, 0)
            if taken is None or taken == len(data):
                return
            self._pending += memoryview(data)[taken:]
            self._await_room()
        if len(self._pending) > self._high and not self._is_protocol_paused:
            self._is_protocol_paused = True
            self._tell_protocol("pause_writing")

    def can_write_eof(self) -> bool:
        """Yes: our streams close each way by itself."""
        return True

    def write_eof(self) -> None:
        """Ends our direction after what was written; reading goes on."""
        if self._is_eof_wanted or self._is_closing:
            return
        self._is_eof_wanted = True
        if not self._pending:
            self._native.finish()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets when the protocol is told to pause and to resume."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            message = f"high ({high}) must be >= low ({low}) must be >= 0"
            raise ValueError(message)
        self._high, self._low = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Returns the marks, low and high."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Returns how many bytes wait here for room in the stream."""
        return len(self._pending)

    def _read(self, _value: object = None, _error: object = None) -> None:
        while not (self._is_paused or self._is_closing or self._is_lost):
            try:
                chunk = self._native.try_read(CHUNK)
                if chunk is None:
                    self._scope.bridge.expect(self._read_token, self._read)
                    if not self._native.poll_readable(self._read_alarm):
                        return
                    self._scope.bridge.forget(self._read_token)
                    continue
            except Exception as error:  # noqa: BLE001 - whatever it is, the protocol is told
                self._lose(error)
                return
            if not chunk:
                self._read_eof()
                return
            self._protocol.data_received(chunk)  # type: ignore[attr-defined]

    def _read_eof(self) -> None:
        if not self._protocol.eof_received():  # type: ignore[attr-defined]
            self.close()

    def _try_write(self, data: bytes | bytearray, offset: int) -> int | None:
        """How many bytes the stream took; `None` if it is lost."""
        try:
            return self._native.try_write(data, offset)
        except Exception as error:  # noqa: BLE001 - whatever it is, the protocol is told
            self._lose(error)
            return None

    def _await_room(self) -> None:
        self._scope.bridge.expect(self._write_token, self._flush)
        if self._native.poll_writable(self._write_alarm):
            self._scope.bridge.forget(self._write_token)
            self._scope.loop.call_soon(self._flush)

    def _flush(self, _value: object = None, _error: object = None) -> None:
        if self._is_lost:
            return
        while self._pending:
            taken = self._try_write(self._pending, 0)
            if taken is None:
                return
            if taken == 0:
                self._await_room()
                break
            del self._pending[:taken]
        if self._is_protocol_paused and len(self._pending) <= self._low:
            self._is_protocol_paused = False
            self._tell_protocol("resume_writing")
        if self._pending:
            return
        if self._is_closing:
            self._finish()
        elif self._is_eof_wanted:
            self._native.finish()

    def _tell_protocol(self, name: str) -> None:
        callback: Callable[[], None] = getattr(self._protocol, name)
        callback()

    def _finish(self) -> None:
        """Ends in order: the node delivers what the stream has taken."""
        self._lose(None)

    def _on_node_closed(self) -> None:
        self._lose(NodeClosed())

    def _lose(self, error: Exception | None, *, reset: bool = False) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._pending.clear()
        for token in (self._read_token, self._write_token):
            self._scope.bridge.forget(token)
        self._scope.not_on_close(self._on_node_closed)
        if reset or error is not None:
            self._native.abort()
        else:
            self._native.close()
        self._scope.loop.call_soon(self._protocol.connection_lost, error)

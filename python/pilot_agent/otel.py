"""Traces: spans for send, request and handlers, and their context in message headers.

Uses the application's tracer provider and propagator through opentelemetry-api. Until the
application installs an SDK every call costs one check.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry import propagate, trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .message import Peer

__all__ = ["handling", "is_enabled", "outgoing"]

_NAME: Final = "pilot_agent"
_OFF: Final[AbstractContextManager[list[tuple[str, str]]]] = nullcontext([])
_NO_PROVIDERS: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
_LOOKS_INSIDE: Final = (
    hasattr(trace, "_TRACER_PROVIDER") and OTEL_PYTHON_TRACER_PROVIDER not in os.environ
)


def is_enabled() -> bool:
    """Whether the application has installed a tracer provider."""
    # Asking the API looks into the environment each time, which costs as much as all the rest of
    # sending a message. What it would find in there is known since this module was loaded.
    if _LOOKS_INSIDE and trace._TRACER_PROVIDER is None:  # noqa: SLF001
        return False
    return not isinstance(trace.get_tracer_provider(), _NO_PROVIDERS)


def outgoing(verb: str, peer: Peer, size: int) -> AbstractContextManager[list[tuple[str, str]]]:
    """A span around something sent; gives the headers that carry its context.

    Args:
        verb: ``"send"`` or ``"request"``.
        peer: To whom.
        size: Bytes of payload.

    Returns:
        A context manager that gives header pairs.
    """
    return _outgoing(verb, peer, size) if is_enabled() else _OFF


def handling(verb: str, sender: str, headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """A span around a handler, continuing the sender's trace.

    Args:
        verb: ``"handle request"`` or ``"handle message"``.
        sender: Who sent it.
        headers: What travelled beside the payload.

    Returns:
        A context manager.
    """
    return _handling(verb, sender, headers) if is_enabled() else _OFF


@contextmanager
def _outgoing(verb: str, peer: Peer, size: int) -> Iterator[list[tuple[str, str]]]:
    kind = trace.SpanKind.CLIENT if verb == "request" else trace.SpanKind.PRODUCER
    attributes: dict[str, str | int] = {
        "messaging.system": "pilot",
        "messaging.operation.name": verb,
        "messaging.destination.name": str(peer),
        "messaging.message.body.size": size,
    }
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(f"pilot {verb}", kind=kind, attributes=attributes):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield list(carrier.items())


@contextmanager
def _handling(verb: str, sender: str, headers: Mapping[str, str]) -> Iterator[None]:
    kind = trace.SpanKind.SERVER if verb == "handle request" else trace.SpanKind.CONSUMER
    attributes = {
        "messaging.system": "pilot",
        "messaging.operation.name": verb,
        "network.peer.address": sender,
    }
    tracer = trace.get_tracer(_NAME)
    context = propagate.extract(headers)
    with tracer.start_as_current_span(
        f"pilot {verb}", context=context, kind=kind, attributes=attributes
    ):
        yield

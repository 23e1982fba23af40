"""The peers of the comparison. To add one: a file with a `Peer`, and a line here."""

from __future__ import annotations

from .base import Lab, Peer
from .go import GoHandler, GoSdk, PilotctlToGo, PilotctlToOurs
from .ours import OurRequest, OurStream
from .sockets import AsyncioTcp, AsyncioTls, AsyncioUdp

__all__ = ["PEERS", "REFERENCE", "Lab", "Peer"]

PEERS: list[type[Peer]] = [
    OurStream,
    OurRequest,
    GoSdk,
    GoHandler,
    PilotctlToOurs,
    PilotctlToGo,
    AsyncioTcp,
    AsyncioTls,
    AsyncioUdp,
]
"""In the order of the table."""

REFERENCE = GoSdk.name
"""What the ratios are relative to."""

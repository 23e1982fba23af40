"""The peers of the comparison. To add one: a file with a `Peer`, and a line here."""

from __future__ import annotations

from .base import CHUNK, Lab, Peer
from .go import GoSdk, Pilotctl
from .grpc_aio import GrpcAio
from .http1 import Aiohttp
from .http2 import Http2
from .iroh_ffi import Iroh
from .native import NativeIroh, NativeOurs, NativeQuinn
from .nats_tls import NatsTls
from .ours import OurRequest, OurStream
from .process import PeerError, Process, Session
from .sockets import AsyncioTcp, AsyncioTls, AsyncioUdp
from .zenoh_tls import ZenohTls
from .zmq_curve import ZmqAsyncio, ZmqCurve

__all__ = ["CHUNK", "PEERS", "Lab", "Peer", "PeerError", "Process", "Session"]

PEERS: list[type[Peer]] = [
    OurStream,
    OurRequest,
    GoSdk,
    Pilotctl,
    Iroh,
    ZenohTls,
    GrpcAio,
    NatsTls,
    ZmqAsyncio,
    ZmqCurve,
    Aiohttp,
    Http2,
    AsyncioTls,
    AsyncioTcp,
    AsyncioUdp,
    NativeOurs,
    NativeQuinn,
    NativeIroh,
]
"""In the order of the table."""

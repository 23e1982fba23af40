"""References written in Rust, from `benches/native`: what a transport can do without Python.

They are programs that speak the protocol of `process` themselves; `make bench-native` builds them.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import CHUNK, KIB, Peer

if TYPE_CHECKING:
    from .base import Lab

__all__ = ["NativeIroh", "NativeOurs", "NativeQuinn"]

_SOURCE = Path(__file__).resolve().parent.parent / "native"


def target_directory() -> Path:
    """Where Cargo puts what it builds of the references."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or _SOURCE / "target")


class NativePeer(Peer):
    """A program for each side: never made in this process."""

    driver = "Rust"
    chunks: ClassVar[tuple[int, ...]] = (CHUNK, 1024 * KIB)
    crate: ClassVar[str]

    @classmethod
    def program(cls) -> Path:
        return target_directory() / "release" / f"reference-{cls.crate}"

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program().exists() else "not built: make bench-native"

    @classmethod
    def version(cls) -> str:
        lock = (_SOURCE / "Cargo.lock").read_text(encoding="utf-8")
        found = re.search(rf'name = "{cls.crate}"\nversion = "(.*)"', lock)
        return found[1] if found else ""

    @classmethod
    def command(cls, role: str, lab: Lab) -> tuple[str, ...]:
        return (str(cls.program()), role, lab.host, str(lab.mtu))

    async def serve(self) -> dict[str, Any]:
        raise NotImplementedError

    async def connect(self, where: dict[str, Any]) -> None:
        raise NotImplementedError


class NativeOurs(NativePeer):
    """pilot-agent as a library of Rust: an example of the main crate."""

    name = "pilot-agent (Rust)"
    crate = "pilot-agent"
    needs_rendezvous = True
    chunks = (64 * KIB, CHUNK, 1024 * KIB)

    @classmethod
    def program(cls) -> Path:
        target = os.environ.get("CARGO_TARGET_DIR") or _SOURCE.parent.parent / "target"
        return Path(target) / "release" / "examples" / "bench-peer"

    @classmethod
    def version(cls) -> str:
        return version("pilot-agent")

    @classmethod
    def command(cls, role: str, lab: Lab) -> tuple[str, ...]:
        return (*super().command(role, lab), f"rust-{lab.directory.name}", lab.rendezvous)


class NativeQuinn(NativePeer):
    """QUIC with aws-lc-rs, packets of the path's size up to 6,000 bytes, 64 MiB windows."""

    name = "quinn (Rust)"
    crate = "quinn"


class NativeIroh(NativePeer):
    """QUIC as iroh has it: windows of its own; it finds the packets' size itself."""

    name = "iroh (Rust)"
    crate = "iroh"

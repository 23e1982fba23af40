"""What a machine must have for a lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

__all__ = ["linkem", "missing"]

_ROOT = Path(__file__).resolve().parents[2]
_NAT = "table ip x { chain y { type nat hook postrouting priority 100; masquerade; }; }"


@cache
def missing() -> str | None:
    """Why there can be no lab here, or None."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "links between namespaces need root"
    for tool in ("ip", "nft", "nsenter"):
        if shutil.which(tool) is None:
            return f"`{tool}` is not installed"
    if not Path("/dev/net/tun").exists():
        return "this kernel has no TUN devices"
    if linkem() is None:
        return "the link emulator is not built: make linkem"
    return _refused("namespaces", "true") or _refused("NAT", "nft", _NAT)


def _refused(what: str, *command: str) -> str | None:
    """Why a command fails in a new network namespace, or None."""
    tried = subprocess.run(
        ["unshare", "--net", *command], capture_output=True, text=True, timeout=10, check=False
    )
    return f"no network {what}: {tried.stderr.strip()}" if tried.returncode else None


def linkem() -> Path | None:
    """The program of the crate `linkem`: `$LINKEM`, or what Cargo built last."""
    if named := os.environ.get("LINKEM"):
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    built = [target / profile / "linkem" for profile in ("release", "debug")]
    built = [program for program in built if program.exists()]
    return max(built, key=lambda program: program.stat().st_mtime, default=None)

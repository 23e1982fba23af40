"""A network namespace with nothing but loopback, for this process and its children."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

__all__ = ["NamespaceUnavailableError", "enter_loopback_namespace", "set_loopback_mtu"]

_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFMTU = 0x8922
_IFF_UP = 0x1

_entered = False


class NamespaceUnavailableError(RuntimeError):
    """This machine does not let us have a network namespace; the text says why."""


def enter_loopback_namespace() -> None:
    """Move this process into a new network namespace, once, and bring its loopback up.

    Call it early: only the calling thread moves, and threads and processes it starts from then
    on. The kernel removes the namespace with its last process, so there is nothing to clean up.
    Root needs nothing else; another user needs unprivileged user namespaces.

    Raises:
        NamespaceUnavailableError: Not Linux, or the kernel refuses.
    """
    global _entered  # noqa: PLW0603  (a process has one network namespace)
    if _entered:
        return
    if sys.platform != "linux":
        msg = "network namespaces exist on Linux only"
        raise NamespaceUnavailableError(msg)
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNET)
    else:
        uid, gid = os.geteuid(), os.getegid()
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    _bring_up("lo")
    _entered = True


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        reason = os.strerror(ctypes.get_errno())
        msg = f"no network namespace: unshare: {reason}; run as root"
        raise NamespaceUnavailableError(msg)


def _bring_up(interface: str) -> None:
    request = struct.pack("16sH14x", interface.encode("ascii"), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        up = struct.pack("16sH14x", interface.encode("ascii"), flags | _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, up)


def set_loopback_mtu(mtu: int) -> None:
    """Change the size of packets on the namespace's loopback, which is 65,536 by itself."""
    if not _entered:
        msg = "not in a namespace of our own: this would change the machine's loopback"
        raise RuntimeError(msg)
    request = struct.pack("16si12x", b"lo", mtu)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, request)

"""A link that runs: the program `linkem` between two namespaces."""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import subprocess
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from .requirements import linkem

if TYPE_CHECKING:
    from .namespaces import Namespace
    from .topology import Link

__all__ = ["Counters", "Wire", "lay_cable"]

_LIMIT = 10.0


@dataclass(frozen=True)
class Counters:
    """What happened in one direction, in packets unless the name says otherwise."""

    sent: int
    sent_bytes: int
    delivered: int
    delivered_bytes: int
    lost: int
    dropped: int
    """The queue in front of the rate was full."""
    too_big: int
    cut: int
    corrupted: int
    duplicated: int
    reordered: int
    unread: int
    """Lost before the link saw them, as the emulator was too slow. Should be 0."""
    refused: int
    """Not taken by the far device."""
    late_us_mean: int
    """Microseconds after they were due."""
    late_us_max: int


class Wire:
    """A link between two namespaces, which lasts until it is stopped or this process ends."""

    def __init__(self, link: Link, a: Namespace, b: Namespace) -> None:
        self.link = link
        program = linkem()
        if program is None:
            raise RuntimeError("the link emulator is not built: make linkem")
        self._process = subprocess.Popen(
            [
                str(program),
                *("--a", f"{a.path},dev=to-{link.b},mtu={link.mtu}"),
                *("--b", f"{b.path},dev=to-{link.a},mtu={link.mtu}"),
                *("--both", link.spec or ""),
                *(() if link.back is None else ("--ba", link.back)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            # Ctrl-C is for the one who wants the links to go, at the end.
            start_new_session=True,
        )
        try:
            self._answer()
        except RuntimeError:
            self.stop()
            raise

    def both(self, spec: str) -> None:
        """Change both directions, for packets sent from now on; what is not named stays."""
        self._command(f"both {spec}")

    def toward(self, host: str, spec: str) -> None:
        """Change the direction that ends at `host`."""
        self._command(f"{self._arrow(host)} {spec}")

    def counters(self, toward: str) -> Counters:
        """What happened so far, in the direction that ends at this host."""
        report = self._command("report")[self._arrow(toward)]
        return Counters(**{field.name: report[field.name] for field in fields(Counters)})

    def stop(self) -> None:
        """Take the link and its devices away."""
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=_LIMIT)
        self._process.kill()
        self._process.wait(_LIMIT)

    def _arrow(self, toward: str) -> str:
        return {self.link.b: "a->b", self.link.a: "b->a"}[toward]

    def _command(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(_LIMIT) else ""
        if not line:
            message = f"the link {self.link.a} - {self.link.b} does not answer; see its errors"
            raise RuntimeError(message)
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def lay_cable(link: Link, a: Namespace, b: Namespace) -> None:
    """A link that only carries, between two namespaces; it goes with either of them.

    Both ends have the same hardware address and ask nobody for another: so any packet can be
    sent through it to any address, as through the devices of a `Wire`.
    """
    hardware = f"02:{random.randbytes(5).hex(':')}"
    a.ip(
        f"link add to-{link.b} address {hardware} mtu {link.mtu} type veth "
        f"peer name to-{link.a} address {hardware} mtu {link.mtu} netns {b.handle}",
        f"link set to-{link.b} arp off up",
    )
    b.ip(f"link set to-{link.a} arp off up")

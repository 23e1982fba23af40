"""What kind of NAT is this? Asked from behind it, after RFC 5780, and without our product.

A server has two addresses and two ports on each. A question is `NUMBER A P`, and the answer, sent
from address number A and port number P, is `NUMBER HOST PORT`: where the question came from.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lab import Lab
    from .nat import Behaviour

__all__ = ["Prober"]

_PORTS = (3478, 3479)
_PATIENCE = 0.4
_ATTEMPTS = 3


class Prober:
    """Finds out how NATs behave, by a server of its own.

    Args:
        lab: Where.
        server: A host with a second address.
    """

    def __init__(self, lab: Lab, server: str) -> None:
        self._lab = lab
        self._addresses = lab.addresses(server)[:2]
        serving = lab.popen(server, *_this("serve", *self._addresses), stdout=subprocess.PIPE)
        assert serving.stdout is not None
        with serving.stdout:
            assert serving.stdout.readline() == b"ready\n"

    def behaviours(self, *hosts: str) -> dict[str, Behaviour]:
        """How the NATs of these hosts behave, all asked at once."""
        asked = {
            host: self._lab.popen(host, *_this("ask", *self._addresses), stdout=subprocess.PIPE)
            for host in hosts
        }
        return {host: _behaviour(process.communicate()[0]) for host, process in asked.items()}


def _this(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(Path(__file__)), *arguments)


def _behaviour(answer: bytes) -> Behaviour:
    # The programs below run as a script, which is not part of the package.
    from .nat import Behaviour  # noqa: PLC0415

    return Behaviour(**json.loads(answer))


def serve(*addresses: str) -> None:
    """Answers until it is killed."""
    sockets = []
    for address in addresses:
        for port in _PORTS:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((address, port))
            sockets.append(one)
    print("ready", flush=True)
    while True:
        for one in select.select(sockets, [], [])[0]:
            question, (host, port) = one.recvfrom(100)
            with contextlib.suppress(ValueError):
                number, a, p = (int(word) for word in question.split())
                sockets[a * len(_PORTS) + p].sendto(
                    f"{number} {host} {port}".encode(), (host, port)
                )


class Asker:
    """A socket of the host behind the NAT."""

    def __init__(self, servers: tuple[str, ...]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("0.0.0.0", 0))
        self._servers = servers
        self._number = 0

    def ask(self, to: tuple[int, int], by: tuple[int, int] | None = None) -> tuple[str, int] | None:
        """Ask one server socket to answer by this or another one; how it saw us."""
        for _ in range(_ATTEMPTS):
            # Answers to earlier questions may come late.
            self._number += 1
            a, p = by or to
            question = f"{self._number} {a} {p}".encode()
            with contextlib.suppress(OSError):
                self.socket.sendto(question, (self._servers[to[0]], _PORTS[to[1]]))
            if answer := self.hear(str(self._number)):
                return answer[1], int(answer[2])
        return None

    def hear(self, first_word: str) -> list[str] | None:
        """Words of a datagram that begins with this one, if it comes soon."""
        deadline = time.monotonic() + _PATIENCE
        while select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(OSError):
                words = self.socket.recv(100).decode().split()
                if words[0] == first_word:
                    return words
        return None

    def local_address(self) -> str:
        """What this host takes for its own address."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.connect((self._servers[0], _PORTS[0]))
            return str(other.getsockname()[0])


def ask(*servers: str) -> dict[str, object]:
    """The tests of RFC 5780, and one for hairpinning."""
    asker = Asker(servers)
    seen = asker.ask((0, 0))
    if seen is None:
        return {"mapping": None, "filtering": None, "hairpins": False}
    everywhere = {seen, asker.ask((0, 1)), asker.ask((1, 0)), asker.ask((1, 1))}
    mapping = "independent" if len(everywhere) == 1 else "port"
    if seen == (asker.local_address(), asker.socket.getsockname()[1]):
        mapping = "none"
    # A new socket: this one has permitted every server by now.
    fresh = Asker(servers)
    fresh.ask((0, 0))
    if fresh.ask((0, 0), by=(1, 1)):
        filtering = "independent"
    else:
        filtering = "address" if fresh.ask((0, 0), by=(0, 1)) else "port"
    hairpins = False
    if mapping == "independent":
        inside, outside = Asker(servers), Asker(servers)
        mapped = inside.ask((0, 0))
        assert mapped is not None
        assert outside.ask((0, 0)) is not None
        for _ in range(_ATTEMPTS):
            outside.socket.sendto(b"hairpin", mapped)
            hairpins = hairpins or inside.hear("hairpin") is not None
    return {"mapping": mapping, "filtering": filtering, "hairpins": hairpins}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        print(json.dumps(ask(*sys.argv[2:])))

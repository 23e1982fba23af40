"""Somebody on the path: sees every datagram on loopback, and sends any from any address."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

__all__ = ["Datagram", "Tap", "variations"]

_ETH_P_IP = 0x0800
_PACKET_OUTGOING = 4
_UDP = 17
_MAGICS = [b"PILT", b"PILS", b"PILK", b"PILA", b"PILP", *(bytes([kind]) for kind in range(11))]


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram from one loopback port to another."""

    source: int
    destination: int
    payload: bytes


class Tap:
    """Needs CAP_NET_RAW, which root of a network namespace has."""

    def __init__(self) -> None:
        self._seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
        self._seen.bind(("lo", _ETH_P_IP))
        self._seen.setblocking(False)
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()
        self._out.close()

    def seen(self) -> list[Datagram]:
        """The datagrams since the last call (or as many as the kernel kept)."""
        found: list[Datagram] = []
        while True:
            try:
                frame, address = self._seen.recvfrom(1 << 17)
            except BlockingIOError:
                return found
            packet = frame[14:]
            if address[2] == _PACKET_OUTGOING or packet[9] != _UDP:
                continue  # loopback shows each packet twice
            udp = packet[(packet[0] & 15) * 4 :]
            source, destination, length = struct.unpack_from(">HHH", udp)
            found.append(Datagram(source, destination, udp[8:length]))

    def send(self, datagram: Datagram) -> None:
        """Send it, with the source address that it says."""
        length = 8 + len(datagram.payload)
        loopback = socket.inet_aton("127.0.0.1")
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0, loopback, loopback
        )
        udp = struct.pack(">HHHH", datagram.source, datagram.destination, length, 0)
        self._out.sendto(ip + udp + datagram.payload, ("127.0.0.1", 0))


def variations(datagram: Datagram, chance: random.Random) -> list[Datagram]:
    """What an attacker makes of a datagram: replayed, moved, reflected, cut, changed, invented."""
    payload = datagram.payload
    at = chance.randrange(max(len(payload), 1))
    changed = bytearray(payload)
    if changed:
        changed[at] ^= 1 << chance.randrange(8)
    invented = chance.choice(_MAGICS) + chance.randbytes(chance.randrange(120))
    return [
        datagram,
        replace(datagram, source=chance.randrange(1024, 65536)),
        Datagram(datagram.destination, datagram.source, payload),
        replace(datagram, payload=payload[:at]),
        replace(datagram, payload=bytes(changed)),
        replace(datagram, payload=payload + chance.randbytes(chance.randrange(1, 9))),
        replace(datagram, payload=payload[:8] + chance.randbytes(max(len(payload) - 8, 0))),
        replace(datagram, payload=invented),
    ]

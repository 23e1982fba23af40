"""A gateway that runs, and what happens to gateways."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .namespaces import Namespace
    from .nat import Nat

__all__ = ["Gateway"]

_NETLINK_NETFILTER = 12
_CTNETLINK_DELETE = 0x0102
_REQUEST_AND_ACKNOWLEDGE = 0x0005
_NLMSG_ERROR = 2

_STOPPED = """
    table ip gateway
    delete table ip gateway
    table ip gateway { chain pass { type filter hook forward priority 0; drop; }; }"""


class Gateway:
    """The rules and the memory of a NAT.

    Args:
        namespace: Where it is.
        nat: What it does.
        wan: Its outside device.
    """

    def __init__(self, namespace: Namespace, nat: Nat, wan: str) -> None:
        self.nat = nat
        self._namespace = namespace
        self._wan = wan
        namespace.sysctl("netfilter", **nat.sysctls())
        # Opened once: a socket belongs to the namespace where it was made.
        self._netlink = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._netlink.settimeout(5)
        self.load(nat)

    def load(self, nat: Nat) -> None:
        """Do from now on what this says, and forget all mappings."""
        self.stop()
        self.nat = nat
        self._namespace.nft(nat.rules(self._wan))

    def stop(self) -> None:
        """Let nothing through, and forget all mappings; until something is loaded."""
        # In this order, or packets of a flow that is still known would note its mapping anew.
        self._namespace.nft(_STOPPED)
        self._forget_flows()

    def reboot(self) -> None:
        """Forget all mappings. Whether the next ones have new ports, `nat.keeps_ports` says."""
        self.load(self.nat)

    def _forget_flows(self) -> None:
        """Delete every flow: what `conntrack --flush` does."""
        # nlmsghdr, then nfgenmsg: any family, version 0.
        message = struct.pack("=IHHII", 20, _CTNETLINK_DELETE, _REQUEST_AND_ACKNOWLEDGE, 1, 0)
        self._netlink.send(message + struct.pack("=BBH", 0, 0, 0))
        kind, error = struct.unpack_from("=4xH10xi", self._netlink.recv(4096))
        if kind != _NLMSG_ERROR or error != 0:
            raise OSError(-error, "deleting flows")

    def close(self) -> None:
        """The rules stay as long as the namespace."""
        self._netlink.close()

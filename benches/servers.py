"""Echo servers, one kind a process; prints its port when it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
import sys
from typing import cast


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(256 << 10):
        writer.write(data)
        await writer.drain()
    writer.close()


class EchoDatagrams(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


def echo_behind_a_go_daemon(socket: str, port: int) -> None:
    sdk = importlib.import_module("pilotprotocol")
    # The end of a connection is an error to the SDK.
    with contextlib.suppress(sdk.PilotError), sdk.Driver(socket).listen(port) as listener:
        print(port, flush=True)
        with listener.accept() as connection:
            while data := connection.read(4096):
                connection.write(data)


async def main(kind: str, *files: str) -> None:
    if kind == "udp":
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            EchoDatagrams, local_addr=("127.0.0.1", 0)
        )
        print(transport.get_extra_info("sockname")[1], flush=True)
    else:
        context = None
        if kind == "tls":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*files)
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "go":
        echo_behind_a_go_daemon(sys.argv[2], int(sys.argv[3]))
    else:
        asyncio.run(main(*sys.argv[1:]))

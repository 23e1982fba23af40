"""Finds the specialists by what they can do, asks all of them at once, prints what they say."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.table import Style, Table
from pilot_agent import AgentInfo, Node, PilotError, Pong

if TYPE_CHECKING:
    from fleet.question import Answer

__all__ = ["QUESTIONS", "Asked", "main", "summary"]

QUESTIONS: dict[str, list[tuple[str, Answer]]] = {
    "academic citations": [
        ("Which paper brought us the transformer?", {"query": "attention is all you need"}),
        ("How do replicas agree, understandably?", {"query": "understandable consensus"}),
        ("What did Lamport write in 1978?", {"author": "Lamport", "year": 1978}),
        ("Cite 10.1103/PhysRev.47.777", {"cite": "10.1103/PhysRev.47.777"}),
    ],
    "historical exchange rates": [
        ("EUR/USD on 15 July 2008?", {"pair": "EUR/USD", "on": "2008-07-15"}),
        ("And on Sunday the 20th?", {"pair": "EUR/USD", "on": "2008-07-20"}),
        ("GBP/CHF when Lehman fell?", {"pair": "GBP/CHF", "on": "2008-09-15"}),
        (
            "EUR/USD around its lowest?",
            {"pair": "EUR/USD", "from": "2000-10-16", "to": "2000-11-06"},
        ),
        ("An ounce of gold in euro?", {"pair": "XAU/EUR", "on": "2008-07-15"}),
    ],
    "aviation weather": [
        ("New York Kennedy, January 2020?", {"station": "KJFK", "month": "2020-01"}),
        ("Nuuk in the same night?", {"station": "BGGH"}),
        ("Where was it coldest?", {"rank": "coldest", "limit": 3}),
        ("Where would you not land?", {"category": "LIFR", "limit": 6}),
    ],
}
"""What to ask whoever has the capability: the question for people and for the machine. The fleet
has no gold price, on purpose: a question that cannot be answered is part of the picture."""

_PATIENCE = 15.0


@dataclass(frozen=True)
class Asked:
    """One question and what came of it.

    Attributes:
        seconds: From asking to the answer.
        failed: The specialist could not answer, or was not reached.
    """

    question: str
    text: str
    seconds: float
    failed: bool


async def find(node: Node, capability: str) -> AgentInfo:
    """The agent that fits `capability` best; waits for one to appear.

    Raises:
        TimeoutError: None did within fifteen seconds.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        agents = await node.find(capability, limit=1)
        if agents:
            return agents[0]
        await asyncio.sleep(0.05)
    raise TimeoutError(f"no agent can do {capability!r}; are the specialists running?")


async def ask(node: Node, address: str, question: str, request: Answer) -> Asked:
    """Put one question to the agent at `address`; a failure is an answer of its own."""
    started = time.monotonic()
    try:
        reply = (await node.request(address, request, timeout=_PATIENCE)).json()
        failed = not reply.get("ok")
        text = str(reply.get("error" if failed else "text"))
    except PilotError as error:
        failed, text = True, str(error)
    return Asked(question, text, time.monotonic() - started, failed)


async def consult(node: Node, capability: str) -> tuple[AgentInfo, Pong, list[Asked]]:
    """Find a specialist and ask it everything there is to ask it, all at once."""
    agent = await find(node, capability)
    first, *others = (
        ask(node, agent.address, question, request) for question, request in QUESTIONS[capability]
    )
    asked = list(await asyncio.gather(first, *others))
    return agent, await node.ping(agent.address), asked


async def main() -> int:
    """Ask the fleet and print the answers; the exit status says whether the fleet worked."""
    style = Style()
    started = time.monotonic()
    async with Node.start("coordinator", capabilities=["research coordination"]) as node:
        print(style(f"coordinator {node.address}", "bold"), "asks for", end=" ")
        print(", ".join(style(capability, "cyan") for capability in QUESTIONS), end="\n\n")
        consulted = await asyncio.gather(*(consult(node, what) for what in QUESTIONS))
        for capability, (agent, pong, asked) in zip(QUESTIONS, consulted, strict=True):
            print(_specialist(style, capability, agent, pong))
            print(_answers(style, asked), end="\n\n")
    everything = [one for _, _, asked in consulted for one in asked]
    print(style(summary(everything, time.monotonic() - started), "dim"))
    # One answer is an error by design (see QUESTIONS); silence from a specialist is not.
    return 0 if sum(one.failed for one in everything) == 1 else 1


def summary(asked: list[Asked], seconds: float) -> str:
    """The last line: how many questions, how many answers, how quick."""
    answered = sum(not one.failed for one in asked)
    quickest = min(one.seconds for one in asked) * 1000
    return (
        f"{len(asked)} questions to {len(QUESTIONS)} specialists, {answered} answered; "
        f"quickest answer {quickest:.1f} ms, {seconds:.1f} s in all"
    )


def _specialist(style: Style, capability: str, agent: AgentInfo, pong: Pong) -> str:
    name = style(agent.hostname or agent.address, "bold")
    trip = f"round trip {pong.rtt * 1000:.2f} ms"
    path = style(pong.path, "green" if pong.path == "direct" else "yellow")
    return f"{name}  {agent.address}  {path} {pong.endpoint}  {trip}  ({capability})"


def _answers(style: Style, asked: list[Asked]) -> str:
    table = Table(["question", "took", "answer"])
    for one in asked:
        text = f"error: {one.text}" if one.failed else one.text
        took = f"{one.seconds * 1000:.1f} ms"
        table.add(one.question, took, text, styles=("red",) if one.failed else ())
    return table.render(style)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (PilotError, TimeoutError) as error:
        sys.exit(f"coordinator: {error}")

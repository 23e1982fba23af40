"""What connected nodes survive. Bounds mean "it works"; `make netlab` prints how well."""

from __future__ import annotations

import asyncio

import pytest

from netlab import events, missing
from netlab.events import LAST, Figures, Times, run_events

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(240),
]

STREAMED = (
    events.reboot_with_same_ports,
    events.reboot_with_new_ports,
    events.reboot_of_the_receiver,
    events.new_public_address,
    events.new_public_address_of_the_receiver,
    events.new_private_address,
    events.another_network,
    events.another_network_of_the_receiver,
    events.cut_of_two_seconds,
)
ASKED = (
    events.mapping_forgotten,
    events.reboot_unnoticed,
    events.new_public_address_unnoticed,
)

# A silent node learns that its NAT has forgotten it from the answer to its next word to the beacon,
# within 15 s; nothing that others send tells it.
UNNOTICED = (events.reboot_unnoticed.__name__, events.new_public_address_unnoticed.__name__)


@pytest.fixture(scope="module")
def figures() -> dict[str, Figures]:
    found = asyncio.run(run_events(Times()))
    for name, one in found.items():
        print(name, one)
    return found


@pytest.mark.parametrize("event", [event.__name__ for event in STREAMED])
def test_a_stream_goes_on(figures: dict[str, Figures], event: str) -> None:
    found = figures[event]
    assert found.trouble == ""
    assert found.intact
    assert found.recovered is not None
    assert found.recovered < 6


@pytest.mark.parametrize("event", [event.__name__ for event in ASKED])
def test_a_question_is_answered(figures: dict[str, Figures], event: str) -> None:
    found = figures[event]
    assert found.trouble == ""
    assert found.answered is not None
    assert found.answered < (20 if event in UNNOTICED else 6)


def test_silence_costs_little(figures: dict[str, Figures]) -> None:
    found = figures[events.nothing_to_say.__name__]
    assert found.trouble == ""
    assert found.rate is not None
    assert found.rate < 2


def test_streams_do_not_need_the_rendezvous_and_it_gets_everybody_back(
    figures: dict[str, Figures],
) -> None:
    found = figures[LAST.__name__]
    assert (found.trouble, found.intact) == ("", True)
    assert found.stood_still is not None
    assert found.answered is not None
    assert found.stood_still < 1
    assert found.answered < 20

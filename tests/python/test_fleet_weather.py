"""The weather specialist and the table of the demo."""

from __future__ import annotations

import io

import pytest

from fleet.question import reply_to
from fleet.table import Style, Table, width
from fleet.weather import answer, load


def test_a_station_in_words_and_numbers() -> None:
    reply = answer({"station": "kjfk", "month": "2020-01"})
    assert reply["text"] == (
        "KJFK, 2020-01-05 23:51Z: wind 320° 13 gusting 20 kt; visibility 10 mi; scattered clouds "
        "at 5000 ft, scattered clouds at 25000 ft; 3 °C, dew point -7 °C; 1016 hPa; VFR"
    )
    assert reply["category"] == "VFR"
    assert reply["wind"] == {"from": 320, "speed": 13, "gust": 20, "unit": "KT"}
    assert reply["temperature_c"] == 2.8
    assert reply["pressure_hpa"] == 1015.9
    assert reply["ceiling_ft"] is None


def test_the_newest_report_of_a_station_wins() -> None:
    assert str(answer({"station": "PAKU"})["when"]).startswith("2020-01")
    assert str(answer({"station": "PAKU", "month": "2019-07"})["when"]).startswith("2019-07")


def test_a_report_without_a_month_says_so() -> None:
    assert answer({"station": "EGLL"})["when"] == "day 18 13:50Z"


@pytest.mark.parametrize(
    ("rank", "station", "value"),
    [
        ("coldest", "PABA", -42.8),
        ("warmest", "OKAS", 45.0),
        ("windiest", "KSDB", 31.0),
        ("lowest pressure", "BGJN", 974.0),
        ("Highest Pressure", "ULLI", 1032.0),
    ],
)
def test_rankings(rank: str, station: str, value: float) -> None:
    reply = answer({"rank": rank, "limit": 1})
    assert isinstance(reply["stations"], list)
    (best,) = reply["stations"]
    assert (best["station"], best["value"]) == (station, value)


def test_stations_by_flight_category() -> None:
    reply = answer({"category": "lifr", "limit": 3})
    assert isinstance(reply["stations"], list)
    assert {"BGGH", "KMYL", "KSYM", "UMMS"} <= set(reply["stations"])
    assert reply["text"] == f"{len(reply['stations'])} stations LIFR: BGGH, KGJT, KMYL …"


def test_every_report_has_one_category_at_most_and_most_have_one() -> None:
    named = [dated for dated in load() if dated.report.flight_category]
    assert len(named) > 0.9 * len(load())


def test_any_report_can_be_decoded() -> None:
    reply = answer({"metar": "METAR EDDF 201150Z 25008KT 9999 FEW040 SCT120 21/11 Q1018 NOSIG ODD"})
    assert reply["text"] == (
        "EDDF, day 20 11:50Z: wind 250° 8 kt; visibility over 10 km; few clouds at 4000 ft, "
        "scattered clouds at 12000 ft; 21 °C, dew point 11 °C; 1018 hPa; VFR"
    )
    assert reply["unparsed"] == ["ODD"]


def test_a_report_of_nothing_is_described_as_such() -> None:
    assert (
        answer({"metar": "METAR LMML 060000Z NIL"})["text"] == "LMML, day 06 00:00Z: no observation"
    )


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({}, "ask about a 'station'"),
        ({"station": "XXXX"}, "no report from XXXX; there are AGGH"),
        ({"station": ""}, "needs a text in 'station'"),
        ({"station": "KJFK", "month": "January"}, "'January' is no month; write 2020-01"),
        ({"station": "KJFK", "month": "1987-01"}, "no report from KJFK in 1987-01"),
        ({"category": "SVFR"}, "no flight category SVFR; there are VFR, MVFR, IFR, LIFR"),
        ({"rank": "nicest"}, "no ranking 'nicest'; there are coldest"),
        ({"rank": "coldest", "limit": 99}, "a whole number from 1 to 50"),
        ({"metar": "not a report"}, "does not begin with a station"),
        (17, "a question is a JSON object"),
    ],
)
def test_a_bad_question_is_answered_with_an_error(question: object, error: str) -> None:
    reply = reply_to(answer, question)
    assert reply["ok"] is False
    assert error in str(reply["error"])


def table() -> Table:
    table = Table(["who", "took", "answer"])
    table.add("Größe", "1 ms", "one two three four five six seven eight nine ten eleven twelve")
    table.add("日本", "22 ms", "short", styles=("red",))
    return table


def test_columns_line_up_and_the_last_one_wraps() -> None:
    assert table().render(Style(io.StringIO()), columns=50).splitlines() == [
        "  who    took   answer",
        "  Größe  1 ms   one two three four five six seven",
        "                eight nine ten eleven twelve",
        "  日本   22 ms  short",
    ]


def test_a_row_with_too_few_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells for 3 columns"):
        table().add("only", "two")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(io.StringIO(), "", False), (Terminal(), "", True), (Terminal(), "1", False)],
)
def test_colours_only_where_they_are_seen_and_wanted(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    rendered = table().render(Style(stream), columns=80)
    assert ("\x1b[31mshort\x1b[0m" in rendered) is coloured
    assert ("\x1b" in rendered) is coloured


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("°C", 2), ("日本", 4), ("e\u0301", 1)])
def test_width_is_counted_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns

"""The weather specialist: decodes aerodrome reports and answers questions about them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.metar import MetarError, Report, parse
from fleet.question import DATA, Answer, Question, QuestionError, text, whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CAPABILITIES", "Dated", "answer", "describe", "load"]

CAPABILITIES = ["aviation weather", "METAR decoding", "flight categories"]

_CATEGORIES = ("VFR", "MVFR", "IFR", "LIFR")
_RANKINGS = ("coldest", "warmest", "windiest", "lowest pressure", "highest pressure")


@dataclass(frozen=True)
class Dated:
    """A report and the month it is of; the month is empty where the source did not tell."""

    month: str
    report: Report

    @property
    def when(self) -> str:
        """The time of the observation as far as it is known, in UTC."""
        report = self.report
        day = f"{report.day:02d}" if report.day is not None else "??"
        clock = f"{report.hour:02d}:{report.minute:02d}" if report.hour is not None else "?"
        return f"{self.month}-{day} {clock}Z" if self.month else f"day {day} {clock}Z"


def load(path: Path = DATA / "metars.txt") -> list[Dated]:
    """Read the reports: a month or dashes, a space, the report."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    split = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return [Dated(month.strip("-") and month, parse(raw)) for month, raw in split]


def answer(question: Question) -> Answer:
    """Answer one question about the weather.

    Args:
        question: `{"station": "KJFK"}`, optionally with `"month": "2020-01"`; `{"category":
            "LIFR"}` for the stations with it; `{"rank": "coldest"}` (or "warmest", "windiest",
            "lowest pressure", "highest pressure"); `{"metar": report}` to decode any report.
            `"limit"` bounds lists.

    Returns:
        `text`, one line for people, and the decoded values.

    Raises:
        QuestionError: The question is none of these, or there is no such report.
    """
    if "metar" in question:
        return _decode(text(question, "metar"))
    if "station" in question:
        dated = _report_of(question)
        return {"text": describe(dated), **_facts(dated)}
    limit = whole(question, "limit", 5, most=50)
    if "category" in question:
        return _with_category(text(question, "category").upper(), limit)
    if "rank" in question:
        return _ranking(text(question, "rank").lower(), limit)
    raise QuestionError(
        "ask about a 'station', a 'category', a 'rank', or send a 'metar' to decode"
    )


def describe(dated: Dated) -> str:
    """The report in plain words, one line."""
    report = dated.report
    if report.missing:
        return f"{report.station}, {dated.when}: no observation"
    parts = [str(report.wind)] if report.wind else []
    parts += ["visibility " + ", ".join(map(str, report.visibility))] if report.visibility else []
    parts += [", ".join(map(str, report.weather))] if report.weather else []
    parts += [", ".join(map(str, report.clouds))] if report.clouds else []
    if report.temperature is not None:
        dewpoint = "" if report.dewpoint is None else f", dew point {report.dewpoint} °C"
        parts.append(f"{report.temperature} °C{dewpoint}")
    parts += [f"{report.pressure_hpa:.0f} hPa"] if report.pressure_hpa is not None else []
    parts += [report.flight_category] if report.flight_category else []
    return f"{report.station}, {dated.when}: " + "; ".join(parts)


def _decode(raw: str) -> Answer:
    try:
        dated = Dated("", parse(raw))
    except MetarError as error:
        raise QuestionError(str(error)) from None
    return {"text": describe(dated), **_facts(dated), "unparsed": dated.report.unparsed}


def _report_of(question: Question) -> Dated:
    station = text(question, "station").upper()
    month = text(question, "month") if "month" in question else ""
    if month and not re.fullmatch(r"\d{4}-\d{2}", month):
        raise QuestionError(f"{month!r} is no month; write 2020-01")
    found = [one for one in _reports() if one.report.station == station]
    if not found:
        known = ", ".join(sorted({one.report.station for one in _reports()})[:8])
        raise QuestionError(f"no report from {station}; there are {known} and others")
    found = [one for one in found if not month or one.month == month]
    if not found:
        raise QuestionError(f"no report from {station} in {month}")
    return max(found, key=lambda one: one.month)


def _with_category(category: str, limit: int) -> Answer:
    if category not in _CATEGORIES:
        raise QuestionError(f"no flight category {category}; there are {', '.join(_CATEGORIES)}")
    found = [one for one in _reports() if one.report.flight_category == category]
    stations = sorted({one.report.station for one in found})
    shown = ", ".join(stations[:limit]) + (" …" if len(stations) > limit else "")
    return {"text": f"{len(stations)} stations {category}: {shown}", "stations": stations}


def _ranking(rank: str, limit: int) -> Answer:
    if rank not in _RANKINGS:
        raise QuestionError(f"no ranking {rank!r}; there are {', '.join(_RANKINGS)}")
    measured = [(value, one) for one in _reports() if (value := _measure(rank, one)) is not None]
    upward = rank in ("coldest", "lowest pressure")
    measured.sort(key=lambda pair: (pair[0] if upward else -pair[0], pair[1].report.station))
    unit = {"coldest": "°C", "warmest": "°C", "windiest": "kt"}.get(rank, "hPa")
    best: list[Answer] = [
        {"station": one.report.station, "when": one.when, "value": round(value, 1), "unit": unit}
        for value, one in measured[:limit]
    ]
    line = ", ".join(f"{row['station']} {row['value']:g} {unit}" for row in best)
    return {"text": f"{rank}: {line}", "stations": best}


def _measure(rank: str, one: Dated) -> float | None:
    if rank in ("coldest", "warmest"):
        return one.report.exact_temperature
    if rank == "windiest":
        return one.report.wind.strongest_kt if one.report.wind else None
    return one.report.pressure_hpa


def _facts(dated: Dated) -> Answer:
    report = dated.report
    wind = report.wind
    return {
        "station": report.station,
        "when": dated.when,
        "category": report.flight_category,
        "wind": None
        if wind is None
        else {"from": wind.direction, "speed": wind.speed, "gust": wind.gust, "unit": wind.unit},
        "visibility_m": round(report.visibility[0].metres) if report.visibility else None,
        "ceiling_ft": report.ceiling_ft,
        "weather": [str(weather) for weather in report.weather],
        "clouds": [str(cloud) for cloud in report.clouds],
        "temperature_c": report.exact_temperature,
        "dewpoint_c": report.dewpoint,
        "pressure_hpa": None if report.pressure_hpa is None else round(report.pressure_hpa, 1),
        "raw": report.raw,
    }


@functools.cache
def _reports() -> list[Dated]:
    return load()

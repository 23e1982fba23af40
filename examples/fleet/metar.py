"""A parser for METAR and SPECI, the weather reports of aerodromes.

Covers the international form (WMO Manual on Codes, FM 15 and 16) and the one of the United States
(Federal Meteorological Handbook 1). A report is a row of groups in a fixed order, most of them
optional; what a group means is told by its shape, so each shape has one pattern and one handler.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.remarks import Remarks, parse_remarks
from fleet.sky import Cloud, RunwayRange, Visibility, Weather, Wind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MetarError", "Report", "Trend", "parse"]

_COLOURS = frozenset({"BLU", "WHT", "GRN", "YLO", "YLO1", "YLO2", "AMB", "RED", "BLACK"})
_INCHES_PER_HPA = 1 / 33.863886667


class MetarError(ValueError):
    """The text is not a weather report."""


@dataclass
class Trend:
    """What the forecaster expects within two hours: a TEMPO or BECMG group, as it was sent."""

    kind: str
    groups: list[str] = field(default_factory=list)


@dataclass
class Report:
    """One decoded report; what was not reported, or reported as missing, is None or empty.

    Attributes:
        day, hour, minute: When the observation was made, in UTC. The month is not in a report.
        automatic: Made without a human observer.
        corrected: Replaces an earlier report of the same time.
        visibility: Prevailing first, then the directional ones.
        temperature, dewpoint: Degrees Celsius, whole as in the body of the report.
        pressure_hpa: Reduced to sea level by the standard atmosphere (QNH).
        no_change: NOSIG, nothing significant is expected within two hours.
        unparsed: Groups of the body that no rule knows. Nothing is dropped silently.
    """

    raw: str
    station: str
    kind: str = "METAR"
    day: int | None = None
    hour: int | None = None
    minute: int | None = None
    missing: bool = False
    automatic: bool = False
    corrected: bool = False
    wind: Wind | None = None
    visibility: list[Visibility] = field(default_factory=list)
    cavok: bool = False
    runways: list[RunwayRange] = field(default_factory=list)
    runway_states: list[str] = field(default_factory=list)
    weather: list[Weather] = field(default_factory=list)
    recent_weather: list[Weather] = field(default_factory=list)
    clouds: list[Cloud] = field(default_factory=list)
    temperature: int | None = None
    dewpoint: int | None = None
    pressure_hpa: float | None = None
    wind_shear: list[str] = field(default_factory=list)
    colour: str = ""
    no_change: bool = False
    trends: list[Trend] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)
    unparsed: list[str] = field(default_factory=list)

    @property
    def ceiling_ft(self) -> int | None:
        """Height of the lowest layer that covers more than half the sky; None if there is none."""
        heights = [cloud.base_ft for cloud in self.clouds if cloud.is_ceiling]
        return min((height for height in heights if height is not None), default=None)

    @property
    def flight_category(self) -> str | None:
        """VFR, MVFR, IFR or LIFR as the United States define them; None if nothing tells.

        The worse of ceiling and prevailing visibility decides.
        """
        if not self.clouds and not self.visibility and not self.cavok:
            return None
        miles = self.visibility[0].miles if self.visibility else float("inf")
        ceiling = float("inf") if self.ceiling_ft is None else self.ceiling_ft
        if ceiling < 500 or miles < 1:
            return "LIFR"
        if ceiling < 1000 or miles < 3:
            return "IFR"
        return "MVFR" if ceiling <= 3000 or miles <= 5 else "VFR"

    @property
    def exact_temperature(self) -> float | None:
        """Tenths of a degree from the remarks where they have them, else the whole degrees."""
        tenths = self.remarks.temperature
        return tenths if tenths is not None else self.temperature

    @property
    def pressure_inhg(self) -> float | None:
        """The pressure in inches of mercury, as altimeters in America show it."""
        return None if self.pressure_hpa is None else self.pressure_hpa * _INCHES_PER_HPA


def parse(raw: str) -> Report:
    """Decode one report.

    Args:
        raw: The report, with or without the leading METAR and the closing "=".

    Raises:
        MetarError: There is no station identifier where one has to be.
    """
    body, _, remarks = f" {' '.join(raw.split()).rstrip('= ')} ".partition(" RMK ")
    groups = _Groups(body.split())
    kind = groups.take_if(lambda group: group in ("METAR", "SPECI")) or "METAR"
    corrected = groups.take_if(lambda group: group == "COR") is not None
    station = groups.take_if(re.compile(r"[A-Z][A-Z0-9]{3}").fullmatch)
    if station is None:
        raise MetarError(f"{raw.strip()[:40]!r} does not begin with a station, such as KJFK")
    report = Report(" ".join(raw.split()), station, kind, corrected=corrected)
    report.remarks = parse_remarks(remarks.split())
    while groups:
        _one_group(report, groups)
    return report


class _Groups:
    """The groups still to be read; a few of them make one piece of information together."""

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups[::-1]

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self) -> str:
        return self._groups.pop()

    def take_if(self, test: Callable[[str], object]) -> str | None:
        return self.take() if self._groups and test(self._groups[-1]) else None


def _one_group(report: Report, groups: _Groups) -> None:
    group = groups.take()
    if re.fullmatch(r"\d{1,2}", group):
        # "1 1/4SM": a whole number of miles stands apart from the fraction that follows it.
        fraction = groups.take_if(re.compile(r"\d/[1-9]\d?SM").fullmatch)
        group = f"{group} {fraction}" if fraction else group
    if group == "WS":
        where = [groups.take(), *filter(None, [groups.take_if("RWY".__eq__)])] if groups else []
        report.wind_shear.append(" ".join(where))
        return
    if group in ("TEMPO", "BECMG"):
        report.trends.append(Trend(group))
        return
    if report.trends:
        report.trends[-1].groups.append(group)
        return
    for pattern, handler in _HANDLERS:
        match = pattern.fullmatch(group)
        if match:
            handler(report, match)
            return
    if not _weather(report, group) and not _colour(report, group):
        report.unparsed.append(group)


def _time(report: Report, match: re.Match[str]) -> None:
    report.day, report.hour, report.minute = (int(match[index]) for index in (1, 2, 3))


def _flag(report: Report, match: re.Match[str]) -> None:
    word = match[0]
    report.missing |= word == "NIL"
    report.automatic |= word == "AUTO"
    report.corrected |= word.startswith("C")
    report.no_change |= word == "NOSIG"


def _wind(report: Report, match: re.Match[str]) -> None:
    report.wind = Wind.from_match(match)


def _arc(report: Report, match: re.Match[str]) -> None:
    if report.wind is not None:
        report.wind.arc = (int(match[1]), int(match[2]))


def _cavok(report: Report, _: re.Match[str]) -> None:
    report.cavok = True
    report.visibility.append(Visibility(10_000.0, more=True))


def _metres(report: Report, match: re.Match[str]) -> None:
    direction = "" if match[2] in (None, "NDV") else match[2]
    report.visibility.append(Visibility.from_metres(int(match[1]), direction))


def _miles(report: Report, match: re.Match[str]) -> None:
    report.visibility.append(Visibility.from_miles(match[1] or "", match[2]))


def _runway_range(report: Report, match: re.Match[str]) -> None:
    report.runways.append(RunwayRange.from_match(match))


def _runway_state(report: Report, match: re.Match[str]) -> None:
    report.runway_states.append(match[0])


def _cloud(report: Report, match: re.Match[str]) -> None:
    base = None if match[2] == "///" else int(match[2]) * 100
    report.clouds.append(Cloud(match[1], base, "" if match[3] in (None, "///") else match[3]))


def _clear(report: Report, match: re.Match[str]) -> None:
    report.clouds.append(Cloud(match[0], None))


def _temperature(report: Report, match: re.Match[str]) -> None:
    report.temperature, report.dewpoint = _celsius(match[1]), _celsius(match[2])


def _pressure(report: Report, match: re.Match[str]) -> None:
    value = int(match[2])
    if match[1] == "Q":
        report.pressure_hpa = float(value)
    elif report.pressure_hpa is None:
        # Central America sends both; hectopascals come first there and are what it measures in.
        report.pressure_hpa = value / 100 / _INCHES_PER_HPA


def _nothing(_report: Report, _match: re.Match[str]) -> None:
    """A group that says only that something was not observed, or that the report came late."""


def _celsius(degrees: str | None) -> int | None:
    if not degrees or degrees == "//":
        return None
    return -int(degrees[1:]) if degrees.startswith("M") else int(degrees)


def _weather(report: Report, group: str) -> bool:
    recent = group.startswith("RE")
    weather = Weather.parse(group[2:] if recent else group)
    if weather is None:
        return False
    (report.recent_weather if recent else report.weather).append(weather)
    return True


def _colour(report: Report, group: str) -> bool:
    states = group.rstrip("+").replace("+", " ").split()
    if not states or not _COLOURS.issuperset(states):
        return False
    report.colour = group
    return True


_RUNWAY = r"R(\d{2}[LCR]?)/"
_HANDLERS: list[tuple[re.Pattern[str], Callable[[Report, re.Match[str]], None]]] = [
    (re.compile(pattern), handler)
    for pattern, handler in [
        (r"(\d{2})(\d{2})(\d{2})Z", _time),
        (r"NIL|AUTO|COR|CC[A-Z]|NOSIG", _flag),
        (r"(\d{3}|VRB|///)(P?\d{2,3}|//)(?:G(P?\d{2,3}))?(KT|MPS|KMH)", _wind),
        (r"(\d{3})V(\d{3})", _arc),
        (r"CAVOK", _cavok),
        (r"(\d{4})(N|NE|E|SE|S|SW|W|NW|NDV)?", _metres),
        (r"([MP])?(\d{1,2}|(?:\d{1,2} )?\d/[1-9]\d?)SM", _miles),
        (_RUNWAY + r"([MP]?)(\d{4})(?:V([MP]?)(\d{4}))?(FT)?/?([UDN])?", _runway_range),
        (_RUNWAY + r"(?:CLRD|[\d/]{4})[\d/]{2}", _runway_state),
        (r"(FEW|SCT|BKN|OVC|VV)(\d{3}|///)(CB|TCU|///)?", _cloud),
        (r"SKC|CLR|NSC|NCD", _clear),
        (r"(M?\d{2}|//)/(M?\d{2}|//)?", _temperature),
        (r"([AQ])(\d{4})", _pressure),
        (r"/{2,}|[AQ]/{4}|RTD", _nothing),
    ]
]

"""The remarks of a weather report: what follows RMK, mostly American and additive."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["PeakWind", "Remarks", "parse_remarks"]


@dataclass(frozen=True)
class PeakWind:
    """The strongest gust of the hour: degrees, knots, and when (the hour may be left out)."""

    direction: int
    speed_kt: int
    minute: int
    hour: int | None = None


@dataclass
class Remarks:
    """What the remarks say, as far as it is coded; the rest stays in `other`.

    Attributes:
        sensor: "AO1" or "AO2": an automatic station without or with a precipitation sensor.
        sea_level_hpa: Pressure at sea level, to a tenth.
        temperature, dewpoint: Degrees Celsius, to a tenth.
        highest_6h, lowest_6h, highest_24h, lowest_24h: Extremes of the last hours, in Celsius.
        rain_1h_in, rain_6h_in, rain_24h_in: Water that fell, in inches; 0 means a trace.
        snow_depth_in: Snow on the ground, in inches.
        tendency: Change of pressure over three hours in hPa, with its sign.
        began_ended: When weather began and ended, as sent, such as "RAB33E40".
        needs_maintenance: The station asks for a technician.
    """

    sensor: str = ""
    sea_level_hpa: float | None = None
    temperature: float | None = None
    dewpoint: float | None = None
    highest_6h: float | None = None
    lowest_6h: float | None = None
    highest_24h: float | None = None
    lowest_24h: float | None = None
    rain_1h_in: float | None = None
    rain_6h_in: float | None = None
    rain_24h_in: float | None = None
    snow_depth_in: int | None = None
    tendency: float | None = None
    peak_wind: PeakWind | None = None
    began_ended: list[str] = field(default_factory=list)
    needs_maintenance: bool = False
    other: list[str] = field(default_factory=list)


def parse_remarks(groups: list[str]) -> Remarks:
    """Decode the groups after RMK."""
    remarks = Remarks()
    rest = iter(groups)
    for group in rest:
        if group == "PK":
            _peak_wind(remarks, [group, *(next(rest, "") for _ in range(2))])
        elif not _coded(remarks, group):
            remarks.other.append(group)
    return remarks


def _coded(remarks: Remarks, group: str) -> bool:
    for pattern, fields in _NUMBERS:
        match = pattern.fullmatch(group)
        if match:
            for name, value in zip(fields, _values(fields, match), strict=True):
                setattr(remarks, name, value)
            return True
    if re.fullmatch(r"A[O0][12]A?", group):
        # Some stations spell it with a zero.
        remarks.sensor = group.replace("0", "O").removesuffix("A")
    elif group == "$":
        remarks.needs_maintenance = True
    elif re.fullmatch(r"(?:[A-Z]{2,4}(?:[BE]\d{2,4})+)+", group):
        remarks.began_ended.append(group)
    else:
        return False
    return True


_NUMBERS: list[tuple[re.Pattern[str], tuple[str, ...]]] = [
    (re.compile(r"SLP(\d{3})"), ("sea_level_hpa",)),
    (re.compile(r"T([01]\d{3})([01]\d{3})?"), ("temperature", "dewpoint")),
    (re.compile(r"1([01]\d{3})"), ("highest_6h",)),
    (re.compile(r"2([01]\d{3})"), ("lowest_6h",)),
    (re.compile(r"4([01]\d{3})([01]\d{3})"), ("highest_24h", "lowest_24h")),
    (re.compile(r"P(\d{4})"), ("rain_1h_in",)),
    (re.compile(r"6(\d{4})"), ("rain_6h_in",)),
    (re.compile(r"7(\d{4})"), ("rain_24h_in",)),
    (re.compile(r"4/(\d{3})"), ("snow_depth_in",)),
    (re.compile(r"5([0-8]\d{3})"), ("tendency",)),
]


def _values(fields: tuple[str, ...], match: re.Match[str]) -> list[float | None]:
    return [
        None if digits is None else _value(name, digits)
        for name, digits in zip(fields, match.groups(), strict=True)
    ]


def _value(name: str, digits: str) -> float:
    number = int(digits)
    if name == "sea_level_hpa":
        # Three digits: the thousand or nine hundred in front is the one nearer to 1000 hPa.
        return number / 10 + (900 if number >= 500 else 1000)
    if name.endswith("_in"):
        return number if name == "snow_depth_in" else number / 100
    if name == "tendency":
        # The first digit is how the pressure moved: up to 3 it is higher than before, 4 the same.
        change = int(digits[1:]) / 10
        return -change if digits[0] in "5678" else change
    tenths = int(digits[1:]) / 10
    return -tenths if digits[0] == "1" and tenths else tenths


def _peak_wind(remarks: Remarks, groups: list[str]) -> None:
    match = re.fullmatch(r"(\d{3})(\d{2,3})/(\d{2})?(\d{2})", groups[2])
    if groups[1] != "WND" or match is None:
        remarks.other.extend(filter(None, groups))
        return
    hour = int(match[3]) if match[3] else None
    remarks.peak_wind = PeakWind(int(match[1]), int(match[2]), int(match[4]), hour)

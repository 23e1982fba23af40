"""The parts of a weather report: wind, visibility, runway visual range, weather, clouds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Cloud", "RunwayRange", "Visibility", "Weather", "Wind"]

_KNOTS = {"KT": 1.0, "MPS": 3600 / 1852, "KMH": 1 / 1.852}
_METRES_PER_MILE = 1609.344
_METRES_PER_FOOT = 0.3048

_COVER = {
    "FEW": "few clouds",
    "SCT": "scattered clouds",
    "BKN": "broken clouds",
    "OVC": "overcast",
    "VV": "sky obscured",
    "SKC": "clear sky",
    "CLR": "clear sky",
    "NSC": "no significant clouds",
    "NCD": "no clouds detected",
}
_CONVECTIVE = {"CB": "cumulonimbus", "TCU": "towering cumulus"}
_DESCRIPTORS = {
    "MI": "shallow",
    "PR": "partial",
    "BC": "patches of",
    "DR": "low drifting",
    "BL": "blowing",
    "SH": "showers of",
    "TS": "thunderstorm with",
    "FZ": "freezing",
}
_PHENOMENA = {
    "DZ": "drizzle",
    "RA": "rain",
    "SN": "snow",
    "SG": "snow grains",
    "IC": "ice crystals",
    "PL": "ice pellets",
    "GR": "hail",
    "GS": "small hail",
    "UP": "unknown precipitation",
    "BR": "mist",
    "FG": "fog",
    "FU": "smoke",
    "VA": "volcanic ash",
    "DU": "dust",
    "SA": "sand",
    "HZ": "haze",
    "PY": "spray",
    "PO": "dust whirls",
    "SQ": "squalls",
    "FC": "funnel cloud",
    "SS": "sandstorm",
    "DS": "dust storm",
}
_WEATHER = re.compile(
    rf"(\+|-|VC)?({'|'.join(_DESCRIPTORS)})?((?:{'|'.join(_PHENOMENA)})*)",
)


@dataclass
class Wind:
    """Wind at ten metres.

    Attributes:
        direction: Where it comes from, in degrees true; None when variable, calm or not measured.
        speed: In `unit`; None when not measured.
        arc: The directions between which it swung by 60 degrees or more.
    """

    direction: int | None
    speed: int | None
    gust: int | None = None
    unit: str = "KT"
    variable: bool = False
    arc: tuple[int, int] | None = None

    @classmethod
    def from_match(cls, match: re.Match[str]) -> Wind:
        """Build from the groups direction, speed, gust and unit."""
        speed = None if match[2] == "//" else int(match[2].lstrip("P"))
        gust = int(match[3].lstrip("P")) if match[3] else None
        blows = match[1].isdigit() and speed != 0
        return cls(int(match[1]) if blows else None, speed, gust, match[4], match[1] == "VRB")

    @property
    def speed_kt(self) -> float | None:
        """The mean speed in knots."""
        return None if self.speed is None else self.speed * _KNOTS[self.unit]

    @property
    def strongest_kt(self) -> float:
        """The gust in knots, or the mean speed where no gust was reported; 0 if unknown."""
        return max(self.speed or 0, self.gust or 0) * _KNOTS[self.unit]

    def __str__(self) -> str:
        if self.speed is None:
            return "wind not measured"
        if self.speed == 0:
            return "calm"
        origin = "variable" if self.direction is None else f"{self.direction:03d}°"
        knots = "" if self.unit == "KT" else f" {self.unit.lower()} ({self.speed_kt:.0f} kt)"
        gusts = f" gusting {self.gust}" if self.gust else ""
        return f"wind {origin} {self.speed}{gusts}{knots or ' kt'}"


@dataclass(frozen=True)
class Visibility:
    """How far one sees.

    Attributes:
        metres: The distance, whatever unit it was reported in.
        direction: A compass point, for a directional visibility; empty for the prevailing one.
        less, more: The distance is an upper or a lower bound.
    """

    metres: float
    direction: str = ""
    less: bool = False
    more: bool = False
    in_miles: bool = False

    @classmethod
    def from_metres(cls, metres: int, direction: str = "") -> Visibility:
        """Build from the four digits of the international form, where 9999 is 10 km and more."""
        if metres == 9999:
            return cls(10_000.0, direction, more=True)
        return cls(float(metres), direction, less=metres == 0)

    @classmethod
    def from_miles(cls, bound: str, distance: str) -> Visibility:
        """Build from statute miles such as "10", "3/4" or "1 1/4", bounded by "M" or "P"."""
        miles = float(sum(Fraction(part) for part in distance.split()))
        return cls(miles * _METRES_PER_MILE, "", bound == "M", bound == "P", in_miles=True)

    @property
    def miles(self) -> float:
        """The distance in statute miles, a little less than reported if it is an upper bound."""
        miles = self.metres / _METRES_PER_MILE
        return miles * 0.999 if self.less else miles

    def __str__(self) -> str:
        bound = "below " if self.less else "over " if self.more else ""
        where = f" to the {self.direction}" if self.direction else ""
        if self.in_miles:
            return f"{bound}{self.metres / _METRES_PER_MILE:g} mi{where}"
        far = f"{self.metres / 1000:g} km" if self.metres >= 5000 else f"{self.metres:.0f} m"
        return f"{bound}{far}{where}"


@dataclass(frozen=True)
class RunwayRange:
    """How far a pilot sees along one runway, in metres; bounds as the instrument's range gives."""

    runway: str
    low: int
    high: int | None = None
    bound: str = ""
    tendency: str = ""

    @classmethod
    def from_match(cls, match: re.Match[str]) -> RunwayRange:
        """Build from runway, bound, low, bound, high, unit and tendency."""
        factor = _METRES_PER_FOOT if match[6] else 1.0
        high = round(int(match[5]) * factor) if match[5] else None
        return cls(
            match[1],
            round(int(match[3]) * factor),
            high,
            match[2] or match[4] or "",
            match[7] or "",
        )


@dataclass(frozen=True)
class Weather:
    """One weather phenomenon, or several that fall together.

    Attributes:
        intensity: "-" light, "+" heavy, "VC" in the vicinity, empty for moderate.
        descriptor: Two letters such as "SH", or empty.
        phenomena: Two letters each, such as ("RA", "SN").
    """

    intensity: str
    descriptor: str
    phenomena: tuple[str, ...]

    @classmethod
    def parse(cls, group: str) -> Weather | None:
        """Read a group such as "-SHRA"; None if it is no weather."""
        match = _WEATHER.fullmatch(group)
        if match is None or not (match[2] or match[3]):
            return None
        codes = match[3]
        pairs = tuple(codes[start : start + 2] for start in range(0, len(codes), 2))
        return cls(match[1] or "", match[2] or "", pairs)

    def __str__(self) -> str:
        strength = {"-": "light ", "+": "heavy "}.get(self.intensity, "")
        name = " and ".join(_PHENOMENA[code] for code in self.phenomena)
        if self.descriptor:
            how = _DESCRIPTORS[self.descriptor]
            # "TS" and "SH" stand alone where nothing falls at the station itself.
            name = f"{how} {name}" if name else how.rsplit(" ", 1)[0]
        return f"{strength}{name}" + (" in the vicinity" if self.intensity == "VC" else "")


@dataclass(frozen=True)
class Cloud:
    """One layer of clouds, or the word that there are none.

    Attributes:
        cover: "FEW", "SCT", "BKN", "OVC", "VV" and the words for a clear sky.
        base_ft: Height above the aerodrome; None for a clear sky or if it was not measured.
        kind: "CB" or "TCU" where it is a storm cloud.
    """

    cover: str
    base_ft: int | None
    kind: str = ""

    @property
    def is_ceiling(self) -> bool:
        """Whether the layer hides more than half of the sky."""
        return self.cover in ("BKN", "OVC", "VV")

    def __str__(self) -> str:
        height = "" if self.base_ft is None else f" at {self.base_ft} ft"
        kind = f" ({_CONVECTIVE[self.kind]})" if self.kind else ""
        return f"{_COVER[self.cover]}{height}{kind}"

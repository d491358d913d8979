"""How much of a run each domain is, and when that changes."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

from data.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FORM = '"0.3 until 40%, then 0" (or "until step 1000"; several: "0.3 until 40%, then 0.1 until 80%, then 0")'
_PART = re.compile(r"(?P<weight>\S+)(?:\s+until\s+(?:(?P<percent>[^\s%]+)\s*%|step\s+(?P<step>\S+)))?")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


@dataclass(frozen=True)
class Change:
    """Where a weight changes: after a share of the run, or at a step of it."""

    share: Fraction | None = None
    step: int | None = None

    def at(self, steps: int) -> int:
        """The first step of what comes after: the first s with s / steps >= share."""
        if self.step is not None:
            return self.step
        return math.ceil((self.share or 0) * steps)

    def __str__(self) -> str:
        if self.step is not None:
            return f"step {self.step}"
        return f"{_decimal((self.share or Fraction(0)) * 100)}%"


@dataclass(frozen=True)
class Mixture:
    """Weights per domain, with change points.

    Attributes:
        weights: of each domain one weight more than it has changes, in order.
        changes: of each domain.

    Example:
        >>> mixture = Mixture.parse({"code": "0.3 until 40%, then 0", "prose": 0.7})
        >>> mixture.resolve(1000).starts
        (0, 400)
    """

    weights: dict[str, tuple[float, ...]]
    changes: dict[str, tuple[Change, ...]]

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Mixture:
        """From a number or a text per domain.

        Args:
            told: domain -> weight, or text of the form "0.3 until 40%, then 0". Weights need not
                add up to one.

        Raises:
            DataError: text of another form, weights that are negative or no numbers, change points that do
                not ascend or are outside the run.
        """
        if not isinstance(told, Mapping) or not told:
            raise DataError(f"mixture: got {told!r}, valid is a weight for each domain, at least one")
        weights, changes = {}, {}
        for domain, one in told.items():
            if not isinstance(domain, str) or not domain:
                raise DataError(f"mixture: got domain {domain!r}, valid is a name")
            weights[domain], changes[domain] = _parsed(f"mixture: domain {domain!r}", one)
        return cls(weights, changes)

    def resolve(self, steps: int) -> Phases:
        """The phases of a run, in steps of it.

        A step belongs to what comes after a change point of p percent where step / steps >= p / 100. Change
        points beyond the run are not reached.

        Raises:
            DataError: no steps, change points of a domain that do not ascend in this run, all weights zero.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise DataError(f"steps: got {steps!r}, valid is a whole number from 1")
        at = {domain: [one.at(steps) for one in changes] for domain, changes in self.changes.items()}
        for domain, places in at.items():
            for i, (one, other) in enumerate(pairwise(places)):
                if other < one:
                    told = (
                        f"{self.changes[domain][i]} is step {one}, {self.changes[domain][i + 1]} step {other}"
                    )
                    raise DataError(
                        f"mixture: domain {domain!r}: change points have to ascend; in {steps} steps {told}; "
                        "write all in percent, or all in steps"
                    )
        starts = sorted({0, *(place for places in at.values() for place in places if place < steps)})
        domains = tuple(sorted(self.weights))
        # Of several changes at one step (a short run) the last holds.
        rows = [
            [self.weights[domain][sum(place <= start for place in at[domain])] for domain in domains]
            for start in starts
        ]
        return Phases(domains, tuple(starts), tuple(map(tuple, rows)), steps)

    def in_steps(self, steps: int) -> Mixture:
        """The same in a run of so many steps, with all changes told in steps, at most one at each."""
        weights, changes = {}, {}
        for domain, told in self.weights.items():
            places = [change.at(steps) for change in self.changes[domain]]
            # Of several changes at one step the last holds.
            kept = [i for i, place in enumerate(places) if i == 0 or place > places[i - 1]]
            weights[domain] = (*(told[i] for i in kept), told[-1])
            changes[domain] = tuple(Change(step=places[i]) for i in kept)
        return Mixture(weights, changes)

    def to_json(self) -> dict[str, float | str]:
        """What `parse` takes."""
        told: dict[str, float | str] = {}
        for domain, weights in self.weights.items():
            parts = [
                f"{weight!r} until {change}"
                for weight, change in zip(weights, self.changes[domain], strict=False)
            ]
            told[domain] = ", then ".join([*parts, repr(weights[-1])]) if parts else weights[0]
        return told


@dataclass(frozen=True)
class Phases:
    """The weights of a run, from step to step; the last ones hold for all steps after it too.

    Attributes:
        domains: names, sorted.
        starts: first step of each phase, ascending, the first 0.
        weights: [phase][domain]; they add up to one in each phase, whatever was given.
        steps: of the run.

    Raises:
        DataError: weights that are negative, no numbers, or all zero in a phase; steps that do not ascend.

    Example:
        >>> Phases(("code", "prose"), (0, 400), ((3, 7), (0, 7)), 1000).weights
        ((0.3, 0.7), (0.0, 1.0))
    """

    domains: tuple[str, ...]
    starts: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    steps: int

    def __post_init__(self) -> None:
        starts, domains = self.starts, self.domains
        ascend = bool(starts) and starts[0] == 0 and all(a < b for a, b in pairwise(starts))
        if not ascend or len(self.weights) != len(starts):
            raise DataError(
                f"phases: got first steps {list(starts)}, valid are ascending ones from 0, one a phase"
            )
        if list(domains) != sorted(set(domains)) or any(len(row) != len(domains) for row in self.weights):
            raise DataError(
                f"phases: got domains {list(domains)}, valid are sorted names, each with a weight a phase"
            )
        normal = []
        for number, row in enumerate(self.weights):
            where = f"mixture: {self.told(number)}"
            for domain, weight in zip(domains, row, strict=True):
                _checked(weight, f"{where}: domain {domain!r}")
            total = math.fsum(row)
            if not 0 < total < math.inf:
                raise DataError(
                    f"{where}: the weights of all domains add up to {total:g}; give one a weight there"
                )
            # Weights that add up to one but for rounding stay as they are, so that reading them changes none.
            scale = 1.0 if abs(total - 1) < 1e-12 else total
            normal.append(tuple(float(weight / scale) for weight in row))
        object.__setattr__(self, "weights", tuple(normal))

    def told(self, number: int) -> str:
        """A phase in words: "steps 0..399"."""
        end = (
            self.starts[number + 1] if number + 1 < len(self.starts) else max(self.steps, self.starts[-1] + 1)
        )
        return f"steps {self.starts[number]}..{end - 1}"

    def phase(self, step: int) -> int:
        """The number of the phase a step is in."""
        return sum(start <= step for start in self.starts) - 1

    def check(self, known: Iterable[str]) -> None:
        """Refuse domains that are not there.

        Raises:
            DataError: names the unknown one, those there are, and the closest.
        """
        known = sorted(known)
        for domain in self.domains:
            if domain not in known:
                close = difflib.get_close_matches(domain, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "name one of these"
                there = ", ".join(map(repr, known)) or "none"
                raise DataError(f"mixture: unknown domain {domain!r}; the data has {there}; {hint}")

    def to_json(self) -> dict[str, Any]:
        """As types that JSON has."""
        return {
            "domains": list(self.domains), "starts": list(self.starts),
            "weights": [list(row) for row in self.weights], "steps": self.steps,
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Phases:
        """From what `to_json` gave; the same to the last bit.

        Raises:
            DataError: a field is missing or of another type.
        """
        try:
            weights = tuple(tuple(map(float, row)) for row in told["weights"])
            return cls(tuple(told["domains"]), tuple(map(int, told["starts"])), weights, int(told["steps"]))
        except DataError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"phases: got {str(told)[:120]}, valid is what `Phases.to_json` gives") from error

    def to_frame(self) -> pd.DataFrame:
        """One row per phase: `steps` in words, and the weight of each domain."""
        import pandas as pd

        rows = [dict(zip(self.domains, row, strict=True)) for row in self.weights]
        return pd.DataFrame(rows, index=pd.Index([self.told(i) for i in range(len(rows))], name="steps"))

    def _repr_html_(self) -> str:
        return self.to_frame().to_html()


def _decimal(value: Fraction) -> str:
    """All digits: shares are read from decimals, and a run that is resumed reads what was written."""
    places = 0
    while (value * 10**places).denominator > 1:
        places += 1
    whole = str((value * 10**places).numerator)
    if not places:
        return whole
    whole = whole.zfill(places + 1)
    return f"{whole[:-places]}.{whole[-places:]}"


def _parsed(where: str, told: Any) -> tuple[tuple[float, ...], tuple[Change, ...]]:
    """The weights and changes of one domain."""
    if not isinstance(told, str):
        return (_checked(told, where),), ()
    parts = re.split(r"\s*,\s*then\s+", told.strip())
    weights: list[float] = []
    changes: list[Change] = []
    for i, part in enumerate(parts):
        found = _PART.fullmatch(part)
        last = i == len(parts) - 1
        if found is None or last == ("until" in part):
            raise DataError(f"{where}: cannot read {told!r}; valid is a number, or {FORM}")
        weights.append(_weight(found["weight"], where, told))
        if not last:
            changes.append(_change(found, where, told))
    _ascending(changes, where)
    return tuple(weights), tuple(changes)


def _weight(text: str, where: str, told: str) -> float:
    try:
        return _checked(float(text), where)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{where}: cannot read {told!r}; valid is a number, or {FORM}") from error


def _checked(weight: Any, where: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
        raise DataError(f"{where}: got weight {weight!r}, valid is a number from 0, or {FORM}")
    return float(weight)


def _change(found: re.Match[str], where: str, told: str) -> Change:
    percent, step = found["percent"], found["step"]
    if step is not None:
        if not step.isascii() or not step.isdigit() or int(step) < 1:
            raise DataError(f"{where}: got step {step!r} in {told!r}, valid is a whole number from 1")
        return Change(step=int(step))
    if not _NUMBER.fullmatch(percent):
        raise DataError(f"{where}: cannot read {told!r}; valid is a number, or {FORM}")
    share = Fraction(percent) / 100
    if not 0 < share <= 1:
        raise DataError(f"{where}: got {percent}% in {told!r}, valid is above 0% and up to 100% of the run")
    return Change(share=share)


def _ascending(changes: Sequence[Change], where: str) -> None:
    """Those of one kind can be told before the length of the run is known."""
    for kind in ("share", "step"):
        places = [(getattr(one, kind), one) for one in changes if getattr(one, kind) is not None]
        for (a, one), (b, other) in pairwise(places):
            if b <= a:
                raise DataError(f"{where}: change points have to ascend, got {one} before {other}")

"""Which snapshots an evaluation averages, and so when to take one and how long to keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from evalsuite.averaging import WIDE, Averaging
from evalsuite.place import Place
from scaling.errors import UsageError

_WIDE = Fraction(str(WIDE))
MOVED = 0.01  # relative change of the learning rate over a window that is no rounding


@dataclass(frozen=True)
class Window:
    """The snapshots of each evaluation, as pure functions of the step: a resumed run does the same.

    Evaluations stand at the multiples of `every`. The one at step e averages the weights of e itself and
    the n - 1 newest snapshots of a grid before it:

    - steps: multiples of the spacing s;
    - auto: s = every * 2^k, with the largest whole k (also below 0) for which (n - 1) s <= span * e, and
      s >= 1; or a larger one, until s >= least, as long as (n - 1) s <= WIDE * e. The grid is floor(i s),
      i = 1, 2, ..., so that each grid holds the wider ones, and snapshots are shared between evaluations.
      Where s divides `every`, the window is e, e - s, ..., e - (n - 1) s;
    - tokens, minutes: the first snapshot in each interval of the spacing.

    A step is a snapshot step if it is in the window of an evaluation then or later (tokens and minutes: of a
    possible one). No more than 2 n are needed at a time, however long the run.

    Attributes:
        averaging: the settings. every: steps between evaluations.

    Example:
        >>> window = Window(Averaging(n=4, spacing=25), every=100)
        >>> taken = [Place(step) for step in range(1, 201) if window.due(Place(step), [])]
        >>> window.members(200, taken)
        (125, 150, 175, 200)
        >>> sorted(window.needed(100, taken[:4]))
        []
    """

    averaging: Averaging
    every: int

    def __post_init__(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise UsageError(f"every {self.every!r}: valid is a whole number of steps from 1")

    def due(self, place: Place, taken: Sequence[Place]) -> bool:
        """Whether to take a snapshot now.

        Args:
            place: now. taken: snapshots before it, ascending; tokens and minutes look at the last.

        Raises:
            UsageError: the spacing is in tokens or minutes, and `place` does not tell them.
        """
        if place.step % self.every == 0:
            return True
        if self.averaging.n == 1:
            return False
        if self._in_steps:
            return self._used(place.step, place.step)
        return self._index(place) > (self._index(taken[-1]) if taken else 0)

    def members(self, step: int, taken: Sequence[Place]) -> tuple[int, ...]:
        """The steps whose mean the evaluation at `step` uses, ascending: of its window those in `taken`."""
        if self._in_steps:
            wanted = self._wanted(step)
        else:
            before = [one for one in self._firsts(taken) if one < step]
            wanted = {step, *before[len(before) - min(self._others, len(before)) :]}
        return tuple(one.step for one in taken if one.step in wanted)

    def needed(self, step: int, taken: Sequence[Place], oldest: int | None = None) -> frozenset[int]:
        """Those of `taken` that have to be kept.

        Args:
            step: evaluations after it count. taken: snapshots, ascending.
            oldest: a run may be resumed at this step: what it then finds of `taken`, up to that step, has to
                do for it too.

        Returns:
            Their steps.
        """
        kept = self._needed(step, taken)
        if oldest is not None:
            kept |= self._needed(oldest, [one for one in taken if one.step <= oldest])
        return frozenset(kept)

    def doubts(self, step: int, members: Sequence[Place]) -> tuple[str, ...]:
        """Why the mean that the evaluation at `step` uses is not to be trusted, in words; empty if it is.

        Args:
            step: of the evaluation. members: the snapshots averaged, ascending.
        """
        n, found = self.averaging.n, []
        if n == 1:
            return ()
        have = [one.step for one in members]
        missing = sorted(self._wanted(step) - set(have)) if self._in_steps else []
        if missing:
            steps = ", ".join(f"{one:,}" for one in missing)
            found.append(
                f"{len(have)} of {n} snapshots: of step {steps} there is none that is whole (left out for "
                "the budget, lost when the run was resumed, deleted or broken)"
            )
        elif len(have) < n:
            found.append(f"{len(have)} of {n} snapshots: the run is too young for more")
        if not members:
            return tuple(found)
        width = (have[-1] - have[0]) / max(1, step)
        if width > WIDE:
            found.append(
                f"the snapshots span {width:.0%} of the steps so far, more than {WIDE:.0%}: so early the "
                "mean lags behind the run; give a shorter spacing"
            )
        if not members[0].lr or members[-1].lr is None:
            return tuple(found)
        change = members[-1].lr / members[0].lr - 1
        if abs(change) > MOVED:
            what = "already decaying, which the mean anticipates" if change < 0 else "still warming up"
            found.append(
                f"the learning rate went from {members[0].lr:.3g} to {members[-1].lr:.3g} over the "
                f"snapshots: {what}"
            )
        return tuple(found)

    # --- grids of steps -------------------------------------------------------------------------------

    @cached_property
    def _in_steps(self) -> bool:
        return self.averaging.apart.unit in ("auto", "steps")

    @cached_property
    def _fixed(self) -> tuple[int, int] | None:
        apart = self.averaging.apart
        return (int(apart.size), 1) if apart.unit == "steps" else None

    @property
    def _others(self) -> int:
        return self.averaging.n - 1

    def _wanted(self, e: int) -> set[int]:
        """The window of an evaluation."""
        if self.averaging.n == 1:
            return {e}
        p, q = self._fixed or self._grid(self._rung(e))
        last = (e * q - 1) // p
        return {e, *(i * p // q for i in range(max(1, last - self._others + 1), last + 1))}

    def _used(self, step: int, after: int) -> bool:
        """Whether an evaluation later than `after`, and not before `step`, has `step` in its window.

        Of the evaluations of one grid the first has the window that begins first.
        """
        e = -(-max(step, after + 1) // self.every) * self.every
        if e == step:
            return True
        if self.averaging.n == 1:
            return False
        if self._fixed:
            return self._holds(step, e, *self._fixed)
        span, reach = max(self.averaging.span, WIDE), step + 2 * self.averaging.n
        while True:
            rung = self._rung(e)
            if self._holds(step, e, *self._grid(rung)):
                return True
            if e > reach and e * (1 - span) - 2 > step:  # so all later windows begin after it
                return False
            e = self._start(rung + 1)

    def _holds(self, step: int, e: int, p: int, q: int) -> bool:
        """Whether a step is one of the n - 1 newest before e on the grid floor(i p / q), i = 1, 2, ..."""
        i = -(-step * q // p)
        return i >= 1 and i * p // q == step and (e * q - 1) // p - i < self._others

    def _grid(self, rung: int) -> tuple[int, int]:
        """The spacing every * 2^rung as a fraction p / q."""
        return (self.every << rung, 1) if rung >= 0 else (self.every, 1 << -rung)

    def _rung(self, e: int) -> int:
        """The largest k with (n - 1) every 2^k <= span e and every 2^k >= 1; or up to `least`, by WIDE e."""
        most = max(self._fits(e, self.averaging.share), min(self._close, self._fits(e, _WIDE)))
        return max(most, 1 - self.every.bit_length())

    @cached_property
    def _close(self) -> int:
        """The smallest k with every 2^k >= least."""
        k = self.averaging.least.bit_length() - self.every.bit_length() - 1
        while self.every << max(0, k) < self.averaging.least << max(0, -k):
            k += 1
        return k

    def _fits(self, e: int, part: Fraction) -> int:
        """The largest k with (n - 1) every 2^k <= part e."""
        have, unit = part.numerator * e, part.denominator * self._others * self.every
        k = have.bit_length() - unit.bit_length()
        if have << max(0, -k) < unit << max(0, k):
            k -= 1
        return k

    def _start(self, rung: int) -> int:
        """The first evaluation of a rung or of a higher one."""
        parts = [self.averaging.share, *([_WIDE] if rung <= self._close else [])]
        found = []
        for part in parts:
            need, have = part.denominator * self._others << max(0, rung), part.numerator << max(0, -rung)
            found.append(max(1, -(-need // have)) * self.every)
        return min(found)

    # --- tokens and minutes ---------------------------------------------------------------------------

    def _index(self, place: Place) -> int:
        """The interval of the spacing that a place is in."""
        apart = self.averaging.apart
        value = place.tokens if apart.unit == "tokens" else place.seconds
        if value is None:
            raise UsageError(
                f"spacing {self.averaging.spacing!r}: step {place.step:,} does not tell its "
                f"{'tokens' if apart.unit == 'tokens' else 'seconds'}; pass them, or give a spacing in steps"
            )
        return int(value // (apart.size if apart.unit == "tokens" else 60 * apart.size))

    def _firsts(self, taken: Sequence[Place]) -> list[int]:
        """The steps of the first snapshot of each interval."""
        found, last = [], 0
        for one in taken:
            if (index := self._index(one)) > last:
                found.append(one.step)
                last = index
        return found

    def _needed(self, step: int, taken: Sequence[Place]) -> set[int]:
        if self._in_steps:
            return {one.step for one in taken if self._used(one.step, step)}
        firsts = self._firsts(taken)
        kept = set(firsts[len(firsts) - min(self._others, len(firsts)) :])
        newest = taken[-1].step if taken else 0
        for e in range((step // self.every + 1) * self.every, newest + 1, self.every):
            kept.update(self.members(e, taken))
        return kept

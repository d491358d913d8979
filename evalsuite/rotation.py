"""Which suites run at a point of a training run: those of its stage, and for a while the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evalsuite.programme import Programme


@dataclass(frozen=True)
class Rotation:
    """Suites by stage of compute.

    Attributes:
        programmes: in the order of their stages.
        overlap: evaluations in which a suite whose stage is over runs on beside its successor, so that series
            can be joined.

    Example:
        >>> early, late = Programme("early", 1e18, 1e20, ()), Programme("late", 1e20, 1e22, ())
        >>> Rotation((early, late)).active(3e20, [{"early"}, {"early", "late"}])
        ('early', 'late')
        >>> Rotation((early, late)).active(4e20, [{"early"}, {"early", "late"}, {"early", "late"}])
        ('late',)
    """

    programmes: tuple[Programme, ...]
    overlap: int = 2

    def active(self, flops: float | None, ran: Sequence[Iterable[str]]) -> tuple[str, ...]:
        """The names of the suites to run.

        Those whose stage holds the compute; below all stages the first, in a gap between stages and above all
        of them the last that has begun.

        Args:
            flops: spent so far; None where one suite serves all. ran: names of those run at each evaluation
                before, in their order.
        """
        if flops is None or len(self.programmes) == 1:
            return tuple(one.name for one in self.programmes)
        holding = [one for one in self.programmes if one.low <= flops < one.high]
        if not holding:
            begun = [one for one in self.programmes if one.low <= flops]
            holding = [max(begun, key=lambda one: one.high) if begun else self.programmes[0]]
        names = {one.name for one in holding}
        newest = holding[-1]
        for one in self.programmes:
            if one.name in names or one.high > flops:
                continue
            together = sum({one.name, newest.name} <= set(each) for each in ran)
            before = any(one.name in each for each in ran)
            if before and together < self.overlap:
                names.add(one.name)
        return tuple(one.name for one in self.programmes if one.name in names)

    def outside(self, flops: float | None) -> str:
        """In words, that no stage holds this compute; empty where one does."""
        if flops is None or any(one.low <= flops < one.high for one in self.programmes):
            return ""
        stages = ", ".join(f"{one.name} {one.low:g}..{one.high:g}" for one in self.programmes)
        return f"{flops:.3g} FLOPs are in none of the stages ({stages}); the nearest is run"

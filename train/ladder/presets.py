"""The ladders that can be run by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.errors import UsageError
from train.ladder.cells import EVEN, WITHOUT, Cell


@dataclass(frozen=True)
class Rung:
    """Runs of one size.

    Attributes:
        size: preset of the model. tokens: training lengths. rows: of a step.
        even: seeds of the mixture `even`, at each length. others: of every other mixture, at the first one.
        mtp: seeds of runs with multi-token prediction besides, on `even` at the first length.
    """

    size: str
    tokens: tuple[float, ...]
    even: int = 1
    others: int = 0
    rows: int = 8
    mtp: int = 0


@dataclass(frozen=True)
class Ladder:
    """A grid of runs and how they are evaluated.

    Attributes:
        name: of the preset. rungs: by size. without: domains each of which a mixture leaves out.
        vocabulary: ids of the tokenizer. context: tokens of a row. most: bytes of text of a domain.
        checkpoints: evaluations of a run. raw: at every n-th the weights as they are too.
        stderr: of accuracy at chance, that the number of items follows from.
        tasks: patterns; all where empty.
    """

    name: str
    rungs: tuple[Rung, ...]
    without: tuple[str, ...] = ("skills",)
    vocabulary: int = 2048
    context: int = 256
    most: int | None = 8_000_000
    checkpoints: int = 15
    raw: int = 3
    stderr: float = 0.1
    tasks: tuple[str, ...] = ()

    def cells(self, domains: Sequence[str]) -> tuple[Cell, ...]:
        """The runs, in the order they are trained.

        First seed 0 of everything, from the largest size down, so that workers end together; then the next
        seeds: a ladder that is cut off is a whole one with fewer repeats.
        """
        names = [EVEN, *sorted(domains), *(f"{WITHOUT}{one}" for one in self.without if one in domains)]
        found = []
        for rung in reversed(self.rungs):
            for tokens in rung.tokens:
                first = tokens == rung.tokens[0]
                for name in names:
                    seeds = rung.even if name == EVEN else rung.others if first else 0
                    found += [Cell(rung.size, name, seed, tokens, rung.rows) for seed in range(seeds)]
                seeds = rung.mtp if first else 0
                found += [Cell(rung.size, EVEN, seed, tokens, rung.rows, mtp=1) for seed in range(seeds)]
        return tuple(sorted(found, key=lambda cell: cell.seed))


# Tokens are a few for each weight: little, and what two cores can do. `cpu` spans three decades of compute
# from its smallest run to its largest; `gpu` carries the same grid on.
PRESETS = {
    "smoke": Ladder(
        "smoke",
        (Rung("0.01m", (6e3,), even=2, others=1, rows=2), Rung("0.03m", (12e3,), even=1, rows=2)),
        vocabulary=512, context=64, most=60_000, checkpoints=3, raw=1, stderr=0.25,
        tasks=("skill_copy*", "skill_add_*"),
    ),
    "cpu": Ladder(
        "cpu",
        raw=5,
        rungs=(
            Rung("0.01m", (5e4, 4e5), even=7, others=1, rows=2),
            Rung("0.03m", (2e5, 8e5), even=2, others=2, rows=4),
            Rung("0.1m", (5e5,), even=2, others=2, mtp=2),
            Rung("0.3m", (1e6,), even=3),
            Rung("0.8m", (1.5e6,), even=1),
            Rung("1.5m", (2.5e6,), even=1),
        ),
    ),
    "gpu": Ladder(
        "gpu",
        (
            Rung("0.8m", (2e7,), even=4, others=2, rows=64),
            Rung("2.7m", (6e7, 2.4e8), even=2, others=2, rows=128),
            Rung("6m", (1.2e8,), even=2, others=2, rows=128, mtp=2),
            Rung("14m", (3e8,), even=2, rows=256),
            Rung("25m", (5e8,), even=2, rows=256),
            Rung("85m", (1.7e9,), even=1, rows=512),
        ),
        vocabulary=8192, context=512, most=None, checkpoints=20, stderr=0.03,
    ),
}  # fmt: skip


def preset(name: str) -> Ladder:
    """A ladder by name.

    Raises:
        UsageError: none of that name.

    Example:
        >>> len(preset("cpu").rungs)
        6
    """
    if name not in PRESETS:
        raise UsageError(f"ladder: {name!r}: valid are {', '.join(PRESETS)}")
    return PRESETS[name]

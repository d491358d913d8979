"""The batch of a step: a pure function of seed and step, so that order needs no state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.mixture import Phases
from data.shards import Tokens
from data.turns import Turns

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Windows of text.

    Attributes:
        ids: int64 [rows, length].
        domains: number of each row's domain in `Batches.domains`, [rows].
        epochs: how often the domain had been walked through before, [rows].
        starts: place of the row's first token in the tokens of its domain, [rows].
    """

    ids: Array
    domains: Array
    epochs: Array
    starts: Array


@dataclass(frozen=True, eq=False)
class Epoch:
    """One walk through a domain: window k of it starts at offset + order[k] * stride."""

    number: int
    order: NDArray[np.unsignedinteger]
    offset: int


class Batches:
    """The batches of a run.

    Rows are numbered over the whole run: row i of step s is row s * rows + i, whichever rank reads it.
    `Turns` deals them to the domains of their phase. A domain is cut into windows of `length` tokens,
    `stride` apart; each epoch visits all of them once, in an order of its own. The first window of an
    epoch is shifted by less than a stride, so that epochs do not cut at the same places. Order and shift
    come from Philox with the seed as key and (domain, epoch) as counter; the domain counts by its name, so
    others change nothing.

    Args:
        tokens: of each domain.
        phases: weights by step.
        rows: of a batch, all ranks together.
        length: tokens of a row.
        stride: from the start of one window to the next, at most `length`. A model that reads all but the
            last token of a row and predicts all but the first has length = context + 1, stride = context.
        seed: 0..2^64 - 1.

    Attributes:
        domains: names, sorted. windows: of one epoch, for each domain.

    Raises:
        DataError: a domain that is not there, or with weight but shorter than a row; numbers out of range.

    Example:
        >>> batches = Batches(tokens, phases, rows=16, length=257, stride=256, seed=0)   # doctest: +SKIP
        >>> batches.batch(1000).ids.shape                                              # doctest: +SKIP
        (16, 257)
    """

    def __init__(
        self, tokens: Mapping[str, Tokens], phases: Phases, *, rows: int, length: int, stride: int, seed: int
    ) -> None:
        most = {"rows": 2**31, "length": 2**31, "stride": length, "seed": 2**64 - 1}
        for name, value in {"rows": rows, "length": length, "stride": stride, "seed": seed}.items():
            least = 0 if name == "seed" else 1
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most[name]:
                raise DataError(f"{name}: got {value!r}, valid is a whole number, {least}..{most[name]}")
        phases.check(tokens)
        self.phases, self.rows, self.length, self.stride, self.seed = phases, rows, length, stride, seed
        self.domains = phases.domains
        self.tokens = [tokens[domain] for domain in self.domains]
        self._refuse_short()
        self.windows = [max(1, (len(one) - length + 1) // stride) for one in self.tokens]
        self._turns = [Turns(weights) for weights in phases.weights]
        self._before = [[0] * len(self.domains)]  # rows of each domain before each phase
        for number, (start, end) in enumerate(pairwise(phases.starts)):
            counts = self._turns[number].counts((end - start) * rows)
            self._before.append([a + b for a, b in zip(self._before[-1], counts, strict=True)])
        self._kept: list[tuple[Epoch, ...]] = [()] * len(self.domains)

    def batch(self, step: int, rows: slice | None = None) -> Batch:
        """The batch of a step.

        Args:
            step: from 0; the last phase has no end.
            rows: which of the rows, for one rank of several; all where not given.

        Raises:
            DataError: a negative step, or tokens that are not what they should be.
        """
        if step < 0:
            raise DataError(f"step: got {step}, valid is 0 or more")
        phase = self.phases.phase(step)
        turns, before = self._turns[phase], self._before[phase]
        first = (step - self.phases.starts[phase]) * self.rows
        wanted = range(self.rows)[rows or slice(None)]
        ids = np.empty((len(wanted), self.length), dtype=np.int64)
        domains, epochs, starts = (np.empty(len(wanted), dtype=np.int64) for _ in range(3))
        for i, row in enumerate(wanted):
            domain, ordinal = turns.turn(first + row)
            number, window = divmod(before[domain] + ordinal, self.windows[domain])
            epoch = self._epoch(domain, number)
            start = epoch.offset + int(epoch.order[window]) * self.stride
            ids[i] = self.tokens[domain].read(start, self.length)
            domains[i], epochs[i], starts[i] = domain, number, start
        return Batch(ids, domains, epochs, starts)

    def repetitions(self, steps: int | None = None) -> pd.DataFrame:
        """How often the text of each domain is read.

        Args:
            steps: of the run; as the phases say where not given.

        Returns:
            One row per phase and domain: `steps` and `domain`, its `weight`, `tokens` at hand and `windows`
            they are cut into, `rows` and tokens `drawn` in this phase (each row counts `stride`: what it adds
            to the window before it), `epochs` in this phase, and `epochs_by_end` since the start of the run.
        """
        import pandas as pd

        steps = self.phases.steps if steps is None else steps
        starts = self.phases.starts
        table = []
        for number, start in enumerate(starts):
            end = min(steps, starts[number + 1]) if number + 1 < len(starts) else steps
            if end <= start:
                break
            counts = self._turns[number].counts((end - start) * self.rows)
            for i, domain in enumerate(self.domains):
                windows, total = self.windows[i], self._before[number][i] + counts[i]
                table.append(
                    {
                        "steps": f"{start}..{end - 1}", "domain": domain,
                        "weight": self.phases.weights[number][i], "tokens": len(self.tokens[i]),
                        "windows": windows, "rows": counts[i], "drawn": counts[i] * self.stride,
                        "epochs": counts[i] / windows, "epochs_by_end": total / windows,
                    }
                )  # fmt: skip
        return pd.DataFrame(table)

    def _epoch(self, domain: int, number: int) -> Epoch:
        kept = self._kept[domain]
        for one in kept:
            if one.number == number:
                return one
        made = self._made(domain, number)
        self._kept[domain] = (*kept[-1:], made)  # one assignment: several threads may ask
        return made

    def _made(self, domain: int, number: int) -> Epoch:
        name = self.domains[domain].encode("utf-8", "surrogatepass")
        key = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
        # The generator counts in the low words; these two stay what they are.
        counter = np.array([0, 0, key, number], dtype=np.uint64)
        philox = np.random.Philox(key=np.array([self.seed, 0], dtype=np.uint64), counter=counter)
        windows = self.windows[domain]
        shift, *_ = philox.random_raw(1).tolist()
        slack = len(self.tokens[domain]) - self.length - (windows - 1) * self.stride
        # Sorted by random numbers that end in the window's own: the order is the same whichever way numpy
        # sorts, and raw numbers are the same in all its versions, as `permutation` need not be.
        bits = windows.bit_length()
        mask = np.uint64((1 << bits) - 1)
        drawn = (philox.random_raw(windows) & ~mask) | np.arange(windows, dtype=np.uint64)
        drawn.sort()
        order = (drawn & mask).astype(np.uint32 if windows < 2**32 else np.uint64)
        return Epoch(number, order, shift % (min(slack, self.stride - 1) + 1))

    def _refuse_short(self) -> None:
        for i, domain in enumerate(self.domains):
            weights = [row[i] for row in self.phases.weights]
            if any(weights) and len(self.tokens[i]) < self.length:
                raise DataError(
                    f"domain {domain!r}: has weight {max(weights):g} and {len(self.tokens[i])} tokens, a row "
                    f"takes {self.length}; add text, give it weight 0, or take shorter rows"
                )

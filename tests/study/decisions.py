"""How many public pairs of recipes there are, and how often small runs of them decide as large ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.decisions import COVER, Decisions, decide
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.tasks import benchmark_of
from tests.study.real import missing, scores

ANY_SIZE = {"like": 3.0, "match": None}
# Scales at which most families have a run. Families are seldom alike in size and data, so both are asked.
FAMILIES = {"small": 2.5e21, "target": 3e22, "reach": 3.0, "by": ("family",), "like": 3.0}
# A shape's run at an earlier and at a later checkpoint.
SHAPES = {"by": ("model",), "points": "all", "reach": 1.2}


@dataclass(frozen=True)
class Case:
    """One question to one source.

    Attributes:
        source: its name in `tests.study.real`. what: which recipes differ in what.
        metric: of the small side. options: of `decide`. use: which rows count.
    """

    source: str
    what: str
    metric: str
    options: dict = field(default_factory=dict)
    use: Callable[[pd.DataFrame], pd.Series] | None = None


def plain(frame: pd.DataFrame) -> pd.Series:
    return frame["variant"].isna()


def pretrained(frame: pd.DataFrame) -> pd.Series:
    return (frame["source"] == "sloth") & (frame["variant"] == "sloth_v2")


_CORPORA = (("79M", 7.5e17), ("154M", 2.8e18), ("412M", 2e19))
_SIZES = (("70M", 1.27e20), ("410M", 7.3e20), ("1.4B", 2.55e21))
_LADDER = {"small": 2e19, "target": 5e20}
CASES = (
    *(
        Case(
            "openlm_scaling",
            f"corpora, {name} to 7B",
            "acc",
            {"small": small, "target": 5.7e21, "reach": 1.2},
        )
        for name, small in _CORPORA
    ),
    *(
        Case("pythia", f"deduplication, {name} to 12B", "acc", {"small": small, "target": 2.13e22}, plain)
        for name, small in _SIZES
    ),
    Case("olmo_ladder", "tokens per parameter", "bpb", _LADDER),
    Case("olmo_ladder", "tokens per parameter, any size", "bpb", _LADDER | ANY_SIZE),
    Case("gemstones", "shapes near 100M", "acc_norm", SHAPES | {"small": 2e19, "target": 1.8e20}, plain),
    Case("gemstones", "shapes of 0.5B-2B", "acc_norm", SHAPES | {"small": 1e20, "target": 1e21}, plain),
    Case("obsscaling", "families", "acc", FAMILIES),
    Case("obsscaling", "families, any size and data", "acc", FAMILIES | {"match": None}),
    Case("sloth", "families", "acc", FAMILIES, pretrained),
    Case("sloth", "families, any size and data", "acc", FAMILIES | {"match": None}, pretrained),
)


def run(seed: int = 0) -> pd.DataFrame:
    """One row per case.

    `halves` sets every second benchmark (in order of name) at the small scale against the others at the
    large one, with its interval; `random` is the mean of 100 random halves; `itself` and `rest` are medians
    over tasks. A claim needs 30 pairs of recipes matched in size and data.
    """
    return pd.DataFrame([_measured(case, seed) for case in CASES])


def _measured(case: Case, seed: int) -> dict:
    row: dict = {"source": case.source, "recipes_differ_in": case.what}
    table = scores(case.source)
    if table is None:
        return row | missing(case.source)
    use = table.frame["metric"] == case.metric
    table = table.where(use if case.use is None else use & case.use(table.frame), "not in this study")
    try:
        plain_answer = decide(table, **case.options, seed=seed)
    except StagewiseError as error:
        return row | {"skipped": str(error)}
    suite = _every_second(plain_answer)
    halves = _halves(table, case.options, suite, seed)
    rows = plain_answer.to_frame()
    row |= {"metric": case.metric, "recipes": plain_answer.pairs.n_recipes, "pairs": len(plain_answer.pairs)}
    row |= {"refused": len(plain_answer.pairs.refused), "tasks": len(rows)}
    row |= {"itself": rows["itself"].median(), "rest": rows["rest"].median()}
    if halves is not None and halves.suite is not None:
        kinds = halves.to_frame().set_index("kind")
        row |= {"halves": halves.suite.share, "low": halves.suite.low, "high": halves.suite.high}
        row |= {"random": kinds.loc["random", "rest"], "halves_pairs": halves.suite.pairs}
    # Unmatched recipes differ in more than what they are named for, so no number of them supports a claim.
    matched = case.options.get("match", 2.0) is not None
    row["claim"] = matched and halves is not None and halves.suite is not None and halves.suite.claim
    row["refused_because"] = "; ".join(f"{n} {why}" for why, n in plain_answer.pairs.reasons().items())
    return row


def _every_second(found: Decisions) -> dict[Key, float]:
    """Equal weights on every second benchmark, of those that 90% of the paired recipes were scored on."""
    small = found.small.of(found.pairs.recipes)
    paired = sorted(set(found.pairs.index.ravel().tolist()))
    missed = np.isnan(small.scores[paired]).sum(axis=0)
    whole = [key for key, lost in zip(small.keys, missed, strict=True) if lost <= (1 - COVER) * len(paired)]
    names = sorted({benchmark_of(key.task) for key in whole})
    return {key: 1.0 for key in whole if benchmark_of(key.task) in names[::2]}


def _halves(table: ScoreTable, options: dict, suite: dict[Key, float], seed: int) -> Decisions | None:
    try:
        return decide(table, **options, suite=suite, seed=seed) if suite else None
    except StagewiseError:  # one benchmark alone leaves nothing to decide by
        return None

"""A task of lm-eval as a result of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pandas as pd

from evalsuite.likelihoods import Likelihoods
from evalsuite.lm import ScorerLM
from evalsuite.lm_tasks import HarnessTasks
from evalsuite.measures import chance
from evalsuite.results import Done, Row, Wanted, item_file
from evalsuite.scorer import Scorer
from evalsuite.tasks import LM_EVAL
from scaling.errors import StagewiseError


def by_lm_eval(one: Wanted, scorer: Scorer, tasks: HarnessTasks) -> Iterator[tuple[Done, Likelihoods | None]]:
    """Score a task of lm-eval, or all of a group.

    Args:
        one: what is wanted, named `lm_eval:NAME`. scorer: the model. tasks: where names are looked up.

    Yields:
        For each task what was done (a member of a group is named after itself), and its likelihoods where
        lm-eval's scores follow from them.

    Raises:
        StagewiseError: see `HarnessTasks.score`; or items chosen by name, which lm-eval's tasks have not.
    """
    if one.item_ids is not None:
        raise StagewiseError(f"task {one.task}: items are chosen by name, and lm-eval's have none; ask all")
    found = tasks.score(one.task, ScorerLM(scorer), shots=one.shots, limit=one.items)
    for name, rows in found.rows.groupby("task", sort=False):
        called = LM_EVAL + str(name)
        likelihoods = found.likelihoods.get(str(name))
        shots = rows["shots"].iloc[0]
        kept = tuple(_row(row) for row in rows.to_dict("records"))
        counts = [row.n_items for row in kept if row.n_items]
        wanted = one.model_copy(update={"task": called})
        asked = f"{called} {one.shots} {one.items}"
        done = Done(
            **wanted.model_dump(), digest=hashlib.sha256(asked.encode()).hexdigest(),
            file=item_file(called, one.shots) if likelihoods is not None else None, rows=kept,
            examples=0 if pd.isna(shots) else int(shots), answered=max(counts, default=1),
            truncated=0 if likelihoods is None else int(likelihoods.truncated.sum()),
            chance=0.0 if likelihoods is None else float(chance(likelihoods).mean()),
            mode=str(scorer.parity.mode) if scorer.parity else "", seconds=0.0,
        )  # fmt: skip
        yield done, likelihoods


def _row(row: dict) -> Row:
    stderr, count = row["stderr"], row["n_items"]
    return Row(
        metric=row["metric"], score=float(row["score"]), stderr=None if pd.isna(stderr) else float(stderr),
        n_items=None if pd.isna(count) else int(count),
    )  # fmt: skip

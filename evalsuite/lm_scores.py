"""What lm-eval found, as our score rows and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask
from lm_eval.api.task import Task as HarnessTask

from evalsuite.likelihoods import Likelihoods
from evalsuite.lm import ScorerLM
from evalsuite.measures import estimate
from evalsuite.requests import scored_bytes

_OURS = {"brier_score": "brier"}
_ABOUT = ("alias", "name", "sample_len", "sample_count")


@dataclass(frozen=True)
class HarnessScores:
    """What lm-eval says of a name: one task, or those of a group.

    Attributes:
        rows: one per task (and group) and metric: task, metric, shots, score, stderr, n_items. Names of
            metrics as in our tables; a filter other than `none` stays in the name.
        likelihoods: by task, of those whose answers are choices or log-likelihoods and whose scores are
            lm-eval's own: what pairs two models item by item. Items are called by their number.
    """

    rows: pd.DataFrame
    likelihoods: Mapping[str, Likelihoods] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """The score rows."""
        return self.rows

    def _repr_html_(self) -> str:
        return self.rows.to_html(index=False)


def rows_of(name: str, found: Mapping[str, Any], task: HarnessTask | None) -> Iterator[dict[str, Any]]:
    """Score rows of a task or group, where finite; a standard error where the score is a mean over items."""
    result, shots = found["results"][name], found["n-shot"].get(name)
    for key, value in result.items():
        metric, _, filtered = key.partition(",")
        number = isinstance(value, Real) and not isinstance(value, bool)
        if key in _ABOUT or metric.endswith("_stderr") or not (number and np.isfinite(float(value))):
            continue
        count, stderr = result.get("sample_len"), np.nan
        if task is not None and ((task.aggregation() or {}).get(metric) or mean) is mean:
            samples = [one for one in found["samples"][name] if one["filter"] == filtered and metric in one]
            made = estimate(metric, np.array([one[metric] for one in samples], dtype=float))
            count, stderr = made.n_items, made.stderr
        ours = _OURS.get(metric, metric)
        yield {
            "task": name, "metric": ours if filtered in ("", "none") else f"{ours},{filtered}",
            "shots": shots if isinstance(shots, int) else None, "score": float(value), "stderr": stderr,
            "n_items": count,
        }  # fmt: skip


def likelihoods_of(
    name: str, task: HarnessTask, samples: Sequence[Mapping[str, Any]], lm: ScorerLM
) -> Likelihoods | None:
    """What the model said of each item; None where lm-eval's scores do not follow from it."""
    kinds = ("multiple_choice", "loglikelihood")
    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE not in kinds or task.config.process_results:
        return None
    first = samples[0]["filter"]
    samples = sorted((one for one in samples if one["filter"] == first), key=lambda one: one["doc_id"])
    free = task.OUTPUT_TYPE == "loglikelihood"
    choices = [[one["arguments"][0][1]] if free else list(task.doc_to_choice(one["doc"])) for one in samples]
    gold = [0 if free else _gold(task, one, of) for one, of in zip(samples, choices, strict=True)]
    if None in gold:
        return None
    shape = (len(samples), max(map(len, choices)))
    ll, greedy = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    tokens, size, chars, whole = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    cut = np.zeros(len(samples), dtype=bool)
    for i, (one, of) in enumerate(zip(samples, choices, strict=True)):
        # With mutual information, requests without context follow those of the choices.
        for j, choice in enumerate(of):
            context, continuation = one["arguments"][j]
            asked = lm.encoded((context, continuation))
            ll[i, j], greedy[i, j] = one["resps"][j][0]
            tokens[i, j], size[i, j] = asked.tokens, scored_bytes(continuation)
            chars[i, j], whole[i, j] = len(choice), len(choice.encode())
            cut[i] |= asked.truncated
    return Likelihoods(
        name, int(task.config.num_fewshot or 0), np.array([str(one["doc_id"]) for one in samples]),
        np.full(len(samples), ""), np.array(gold, dtype=np.int64),
        np.array([0 if free else len(of) for of in choices], dtype=np.int64), ll, tokens, size, chars, whole,
        greedy, cut,
    )  # fmt: skip


def _gold(task: ConfigurableTask, one: Mapping[str, Any], choices: Sequence[str]) -> int | None:
    """The right choice; None where there is not exactly one."""
    # Where contexts differ instead of answers, the target is what follows them all.
    target: Any = task.doc_to_text(one["doc"]) if task.multiple_input else one["target"]
    if isinstance(target, str):
        return choices.index(target) if target in choices else None
    return target if isinstance(target, int) and 0 <= target < len(choices) else None

"""Results of lm-evaluation-harness 0.4 and later: `results_*.json`, with `samples_*.jsonl` beside it."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any, ClassVar

from scaling.models import find_model
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading
from scaling.sources import known_file

DIALECT = "lm-eval-0.4"
_NOT_METRICS = {"alias", "name", "sample_len", "sample_count", "samples"}


class LmEvalReader:
    """Reads `results_*.json` of lm-eval 0.4.x and 0.5.

    A metric `acc,none` becomes `acc`; any other filter stays in the name (`exact_match,strict-match`).
    Per-item samples are recognised and counted: a score table holds means.

    Source: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/interface.md
    """

    format: ClassVar[str] = "lm-eval results 0.4 or later (results_*.json, samples_*.jsonl)"

    def __init__(self) -> None:
        self._reading = Reading()
        self._samples: Counter[str] = Counter()

    def takes(self, file: Candidate) -> bool:
        return self._is_samples(file) or self._is_results(file)

    @staticmethod
    def _is_samples(file: Candidate) -> bool:
        # One sample line may be longer than the head, so its keys are looked for as text.
        if not file.starts_like_json:
            return False
        head = file.head[:4096]
        record = file.first_record
        keys = set(record) if record else set()
        if {"doc_id", "resps", "filtered_resps"} <= keys:
            return True
        return b'{"doc_id":' in head and b'"doc":' in head

    @staticmethod
    def _is_results(file: Candidate) -> bool:
        document = file.json
        if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
            return False
        return "n-shot" in document or (
            "configs" in document
            and any(
                "," in metric
                for metrics in document["results"].values()
                if isinstance(metrics, dict)
                for metric in metrics
            )
        )

    def add(self, file: Candidate) -> None:
        if self._is_samples(file):
            self._samples[str(PurePosixPath(file.inside).parent)] += 1
            return
        document = file.json
        config = document.get("config") or {}
        name, step = _run(document, config)
        found = find_model(name)
        place = known_file(file.digest, file.inside)
        params = config.get("model_num_parameters")
        base: dict[str, Any] = {
            "source": place[0] if place else "lm-eval",
            "family": found.info.family if found else None,
            "model": found.info.name if found else name,
            "step": step,
            "variant": found.variant if found else None,
            "params": params if isinstance(params, int | float) and params > 0 else None,
            "dialect": DIALECT,
            "file": file.name,
        }
        shots, items, versions = (document.get(key) or {} for key in ("n-shot", "n-samples", "versions"))
        for task, metrics in document["results"].items():
            for key, value in metrics.items():
                metric, _, filtered = key.partition(",")
                if metric in _NOT_METRICS or metric.endswith("_stderr"):
                    continue
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                stderr = metrics.get(f"{metric}_stderr,{filtered}")
                count = items.get(task)
                self._reading.add(
                    **base,
                    task=task,
                    version=versions.get(task),
                    metric=metric if filtered in ("", "none") else f"{metric},{filtered}",
                    shots=shots.get(task) if isinstance(shots.get(task), int) else None,
                    score=float(value),
                    stderr=float(stderr) if isinstance(stderr, int | float) else math.nan,
                    n_items=count.get("effective") if isinstance(count, dict) else count,
                )

    def finish(self) -> Reading:
        for folder, count in sorted(self._samples.items()):
            self._reading.omit("per-item samples: counted, not in the table", folder, count)
        return self._reading


def _run(document: dict[str, Any], config: dict[str, Any]) -> tuple[str, int | None]:
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    arguments = arguments if isinstance(arguments, dict) else {}
    name = arguments.get("pretrained") or document.get("model_name") or config.get("model") or "unnamed"
    revision = str(arguments.get("revision") or "")
    step = re.fullmatch(r"(?:global_)?step[-_]?(\d+)", revision)
    return str(name), int(step.group(1)) if step else None

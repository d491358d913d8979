"""Results of lm-evaluation-harness before 0.4: one JSON object with `results`, `versions`, `config`."""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any, ClassVar

from scaling.facts.tables import file_variants, score_units
from scaling.models import find_model
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading
from scaling.sources import known_file

DIALECT = "lm-eval-0.3"


class OldLmEvalReader:
    """Reads old-harness JSON, whether `model_args` is a string (HF models) or a whole NeoX configuration.

    The number of solved examples, the model and the step are taken from the file's own `config`, never
    from its name or folder. A file whose folder or name states another number of shots than its config
    is counted, and copies of scores already read are dropped later by their key.

    Source: https://github.com/EleutherAI/lm-evaluation-harness/tree/v0.3.0
    """

    format: ClassVar[str] = "lm-eval results before 0.4 (JSON with results, versions, config)"

    def __init__(self) -> None:
        self._reading = Reading()
        self._misfiled: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._other: Counter[str] = Counter()

    def takes(self, file: Candidate) -> bool:
        if b'"results"' not in file.head and b'"table_results"' not in file.head:
            if file.size <= len(file.head):
                return False
        document = file.json
        if not isinstance(document, dict):
            return False
        if "table_results" in document and ("model_args" in document or "config" in document):
            return True  # the prompt-collection fork of the same harness: counted, not read
        return (
            {"results", "versions", "config"} <= set(document)
            and "n-shot" not in document
            and (isinstance(document["results"], dict) and _old_style(document["results"]))
        )

    def add(self, file: Candidate) -> None:
        document = file.json
        if "table_results" in document or not isinstance(document["results"], dict):
            folder = str(PurePosixPath(file.inside).parts[0])
            self._other[folder] += 1
            return
        config = document["config"]
        name, step = _run(config)
        source, place = known_file(file.digest, file.inside) or (None, file.inside)
        model = find_model(name)
        family = model.info.family if model else None
        if source is None:
            source = "pythia" if family and family.startswith("pythia") else "lm-eval"
        variant = (model.variant if model else None) or _variant(source, place)
        shots = config.get("num_fewshot")
        stated = _stated_shots(place)
        misfiled = stated is not None and stated != shots
        if misfiled:
            self._misfiled[(source, f"says {stated}-shot, its config {shots}-shot")][
                str(PurePosixPath(file.inside).parent)
            ] += 1
        base: dict[str, Any] = {
            "source": source,
            "family": family,
            "model": model.info.name if model else name,
            "step": step,
            "variant": variant,
            "shots": shots,
            "dialect": DIALECT,
            "file": file.name,
            "rerun": misfiled,
        }
        limit = config.get("limit")
        versions = document["versions"] if isinstance(document["versions"], dict) else {}
        for task, metrics in document["results"].items():
            for metric, value in metrics.items():
                if metric.endswith("_stderr") or not isinstance(value, int | float):
                    continue
                times = score_units(DIALECT, task, metric)
                stderr = metrics.get(f"{metric}_stderr")
                self._reading.add(
                    **base,
                    task=task,
                    version=versions.get(task),
                    metric=metric,
                    score=value * times,
                    stderr=stderr * times if isinstance(stderr, int | float) else math.nan,
                    n_items=limit if isinstance(limit, int) and limit > 1 else None,
                )

    def finish(self) -> Reading:
        for (source, what), folders in sorted(self._misfiled.items()):
            self._reading.omit(
                f"file name or folder {what}: config trusted (re-runs dropped below)", source, folders.total()
            )
        for folder, count in sorted(self._other.items()):
            self._reading.omit("prompt-collection results (one row per prompt): not read", folder, count)
        return self._reading


def _old_style(results: dict[str, Any]) -> bool:
    return all(
        isinstance(metrics, dict) and not any("," in metric for metric in metrics)
        for metrics in results.values()
    )


def _run(config: dict[str, Any]) -> tuple[str, int | None]:
    """The model's name and step by the harness's configuration."""
    arguments = config.get("model_args")
    if isinstance(arguments, dict):
        prefix = PurePosixPath(str(arguments.get("eval_results_prefix") or "")).name
        prefix = re.sub(r"-?(\dshot-)?(global_)?step\d+.*$", "", prefix)
        loaded = PurePosixPath(str(arguments.get("load") or "")).name
        names = [name for name in (loaded, prefix) if name]
        known = [name for name in names if find_model(name)]
        name = (known or names or [str(config.get("model"))])[0]
        iteration = arguments.get("iteration")
        return name, iteration if isinstance(iteration, int) else None
    pairs = dict(part.split("=", 1) for part in str(arguments or "").split(",") if "=" in part)
    name = pairs.get("pretrained") or pairs.get("engine") or str(config.get("model"))
    step = re.fullmatch(r"(?:global_)?step(\d+)", pairs.get("revision", ""))
    return name, int(step.group(1)) if step else None


def _stated_shots(place: str) -> int | None:
    """What folder and file name claim; only ever used to say that they are wrong."""
    words = {"zero-shot": 0, "five-shot": 5}
    for part in PurePosixPath(place).parts:
        if part in words:
            return words[part]
    found = re.search(r"[_-](\d+)-?shot", PurePosixPath(place).name)
    return int(found.group(1)) if found else None


def _variant(source: str, place: str) -> str | None:
    for row in file_variants():
        if row["source"] == source and fnmatch.fnmatch(place, row["pattern"]):
            return row["variant"]
    return None

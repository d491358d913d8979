"""The open_lm scaling results: a JSON per model, a JSON per evaluation, and a CSV that describes tasks."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, ClassVar

from scaling.errors import StagewiseError
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading

_SOURCE = "openlm_scaling"


class OpenLmReader:
    """Reads `models/*.json`, `evals/*.json` and `eval_metadata.csv` of mlfoundations/scaling.

    The metadata gives the number of solved examples. Its numbers of items and its chance rates are not
    used: several are wrong (`scaling/facts/benchmarks.csv` has the right ones, with the reason).

    Source: https://github.com/mlfoundations/scaling (Gadre et al. 2024, arXiv:2403.08540)
    """

    format: ClassVar[str] = "open_lm scaling results (models/*.json, evals/*.json, eval_metadata.csv)"

    def __init__(self) -> None:
        self._models: dict[str, dict[str, Any]] = {}
        self._evals: list[tuple[str, str, dict[str, float]]] = []
        self._shots: dict[str, int] = {}

    def takes(self, file: Candidate) -> bool:
        if {"Eval Task", "#shots"} <= set(file.columns):
            return True
        document = file.json if file.starts_like_json else None
        if not isinstance(document, dict):
            return False
        return ("hyperparameters" in document and isinstance(document.get("results"), list)) or isinstance(
            (document.get("eval_metrics") or {}).get("icl"), dict
        )

    def add(self, file: Candidate) -> None:
        if file.columns:
            table = file.table()
            self._shots.update(zip(table["Eval Task"], table["#shots"].astype(int), strict=True))
            return
        document = file.json
        if "eval_metrics" in document:
            # The evaluation names only the architecture; which run it is stands in the file name.
            run = re.sub(r"^evaluation_|_[a-z]+$", "", PurePosixPath(file.inside).stem)
            self._evals.append((run, file.name, document["eval_metrics"]["icl"]))
        else:
            self._models[document["name"]] = document | {"_file": file.name}

    def finish(self) -> Reading:
        reading = Reading()
        for name, document in self._models.items():
            for result in document["results"]:
                data = PurePosixPath(result["val_data"][0])
                lower, upper = result.get("loss_sequences_lower_95"), result.get("loss_sequences_upper_95")
                reading.add(
                    **self._base(name),
                    task=f"loss:{data.parent.name}",
                    metric="ce_loss",
                    score=result["loss"],
                    # The source gives a 95% bootstrap interval over sequences.
                    stderr=(upper - lower) / (2 * 1.959964) if upper is not None else None,
                    n_items=result.get("sequences"),
                    file=document["_file"],
                )
        for run, file, scores in self._evals:
            if run not in self._models:
                reading.omit(
                    "evaluation without its models/*.json: no compute known, left out", file, len(scores)
                )
                continue
            for task, score in scores.items():
                reading.add(
                    **self._base(run),
                    task=task,
                    metric="acc",
                    shots=self._shots.get(task),
                    score=score,
                    file=file,
                )
        if self._evals and not self._shots:
            raise StagewiseError(
                f"{self._evals[0][1]}: open_lm evaluations without eval_metadata.csv, which gives the number "
                f"of shots; read the whole folder exp_data"
            )
        return reading

    def _base(self, run: str) -> dict[str, Any]:
        document = self._models[run]
        settings = document["hyperparameters"]
        seeds = [
            int(value)
            for flag, value in zip(document["open_lm_args"], document["open_lm_args"][1:], strict=False)
            if flag == "--seed"
        ]
        return {
            "source": _SOURCE,
            "family": f"openlm-{document['dataset_name']}",
            "model": run,
            "params": settings["params"],
            "tokens": settings["tokens"],
            "seed": seeds[0] if seeds else None,
            "variant": document["dataset_name"],
            "dialect": "llm-foundry",
        }

"""In-loop evaluations of the OLMo ladder: one CSV per run, one row per evaluated step."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import ClassVar

import pandas as pd

from scaling.errors import StagewiseError
from scaling.models import find_model
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading

_METRICS = {"len_norm": "acc_norm", "acc": "acc", "bpb": "bpb", "soft": "soft", "soft_log": "soft_log"}
_TASK = re.compile(
    r"eval/downstream(?:_bpb|_soft_log|_soft)?/(.+)_(\d+)shot_(len_norm|acc|bpb|soft_log|soft)"
)
_LOSS = re.compile(r"eval/(.+)-validation/CrossEntropyLoss")
_TOKENS, _GFLOPS = "throughput/total_tokens", "throughput/total_training_Gflops"


class OlmoLadderReader:
    """Reads OLMo in-loop CSV files. Compute is the FLOPs that the trainer itself counted.

    `len_norm` is accuracy of the choice with the best log-likelihood per character: our `acc_norm`.
    A run `1xC-rerun` repeats the recipe `1xC`: both keep their names, with seeds 0 and 1 and one variant
    `1xC`. The run's name is not written inside the file, so it comes from the file's own name.

    Source: https://github.com/allenai/OLMo-ladder (Bhagia et al. 2024, arXiv:2412.04403)
    """

    format: ClassVar[str] = "OLMo ladder in-loop CSV"

    def __init__(self) -> None:
        self._reading = Reading()

    def takes(self, file: Candidate) -> bool:
        return "_step" in file.columns and any(_TASK.fullmatch(name) for name in file.columns)

    def add(self, file: Candidate) -> None:
        table = file.table()
        if _TOKENS not in table:
            raise StagewiseError(
                f"{file.name}: no column {_TOKENS}; export the run with its throughput columns"
            )
        run = PurePosixPath(file.inside).stem
        found = find_model(run.split("-")[0] + "@olmo-ladder")
        parts = []
        for column in table.columns:
            if match := _TASK.fullmatch(column):
                task, shots, metric = match.group(1), int(match.group(2)), _METRICS[match.group(3)]
            elif match := _LOSS.fullmatch(column):
                task, shots, metric = match.group(1), None, "ce_loss"
            else:
                continue
            parts.append(
                pd.DataFrame(
                    {
                        "step": table["_step"],
                        "tokens": table[_TOKENS],
                        "flops": table[_GFLOPS] * 1e9 if _GFLOPS in table else float("nan"),
                        "task": task,
                        "metric": metric,
                        "shots": pd.Series(shots, index=table.index, dtype="Int64"),
                        "score": table[column],
                    }
                )
            )
        frame = pd.concat(parts, ignore_index=True)
        self._reading.frames.append(
            frame.assign(
                source="olmo_ladder",
                family="olmo2-ladder",
                model=run,
                seed=1 if run.endswith("-rerun") else 0,
                # The recipe: repeats share it, and differ in the seed.
                variant=run.removesuffix("-rerun").partition("-")[2] or None,
                params=found.info.params if found else float("nan"),
                dialect="olmo-in-loop",
                file=file.name,
            )
        )

    def finish(self) -> Reading:
        return self._reading

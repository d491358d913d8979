"""The Gemstones runs: lighteval frames, validation losses, training losses and per-item losses."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
import pandas as pd

from scaling.errors import StagewiseError
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading

_RUN = re.compile(r"(?:Gemstone|cooler_PyGemma|PyGemma)-(\d+x\d+)(?:_pretrain)?")
_LOSS_COLUMNS = {"run_name", "step", "final_loss", "tokens", "params_active_precise"}


class GemstonesReader:
    """Reads the result files of the Gemstones scaling suite.

    Parameters and tokens stand in the loss files, so those are needed beside the accuracies. The last
    checkpoint is called `main` there; its step is the run's largest. Files that hold losses say nothing
    inside about which data they were measured on: that one fact comes from their names.

    Source: https://github.com/mcleish7/gemstone-scaling-laws (McLeish et al. 2025, arXiv:2502.06857)
    """

    format: ClassVar[str] = "Gemstones (lighteval parquet, loss jsonl, wandb frames, per-item losses)"

    def __init__(self) -> None:
        self._accuracy: list[tuple[str, pd.DataFrame]] = []
        self._losses: list[tuple[str, str, pd.DataFrame]] = []
        self._items: list[tuple[str, str, str, str, np.ndarray]] = []

    def takes(self, file: Candidate) -> bool:
        if file.is_parquet:
            return {"arc:challenge", "arc:easy"} <= set(file.columns)
        record = file.first_record
        if record is not None and _LOSS_COLUMNS <= set(record):
            return True
        if not file.starts_like_json or b'"main"' not in file.head[:64]:
            return False
        document = file.json
        return isinstance(document, dict) and set(document) == {"main"} and isinstance(document["main"], list)

    def add(self, file: Candidate) -> None:
        path = PurePosixPath(file.inside)
        if file.is_parquet:
            self._accuracy.append((file.name, file.table()))
        elif file.first_record is not None and set(file.first_record) >= _LOSS_COLUMNS:
            self._losses.append((file.name, path.stem, pd.DataFrame(file.lines())))
        else:
            task = path.stem.removeprefix("losses_")
            if len(path.parts) < 3:
                raise StagewiseError(
                    f"{file.name}: per-item losses lie in RUN/STEP/losses_TASK.json; keep the folders"
                )
            losses = np.asarray(file.json["main"], dtype=float)
            self._items.append((file.name, path.parts[-3], path.parts[-2], task, losses))

    def finish(self) -> Reading:
        reading = Reading()
        if not (self._accuracy or self._losses or self._items):
            return reading
        facts = self._checkpoints()
        last = facts.groupby("model")["step"].max()
        for name, stem, frame in self._losses:
            runs, variant = _runs(frame["run_name"], stem)
            reading.frames.append(
                pd.DataFrame(
                    {
                        "model": runs,
                        "step": frame["step"],
                        "params": frame["params_active_precise"],
                        "tokens": frame["tokens"],
                        "variant": variant,
                        "task": "loss:" + _data(stem),
                        "metric": "ce_loss",
                        "score": frame["final_loss"],
                        "file": name,
                    }
                )
            )
        for name, values, errors in self._pairs():
            long = (
                values.rename_axis("run")
                .reset_index()
                .melt(id_vars="run", var_name="task", value_name="score")
            )
            if errors is not None:
                spread = errors.rename_axis("run").reset_index()
                long["stderr"] = spread.melt(id_vars="run", value_name="stderr")["stderr"]
                # lighteval's stderr is sqrt(p(1-p)/(n-1)), so it tells how many items were asked.
                # MMLU's is a mean over subjects and tells nothing.
                n = (long["score"] * (1 - long["score"]) / long["stderr"] ** 2 + 1).round()
                long["n_items"] = n.where(np.isfinite(n) & (long["task"] != "mmlu"))
            parts = long["run"].str.extract(r"^(Gemstone-\d+x\d+)-(?:step_(\d+)|main)$")
            long["model"], _ = _runs(parts[0], "")
            long["step"] = pd.to_numeric(parts[1]).fillna(long["model"].map(last))
            long = long.drop(columns="run").merge(facts, on=["model", "step"], how="left")
            reading.frames.append(long.assign(metric="acc_norm", shots=0, file=name))
        for name, run, step, task, losses in self._items:
            model = _runs(pd.Series([run]), "")[0].iloc[0]
            at = last.get(model) if step == "main" else int(step.removeprefix("step_"))
            row = facts[(facts["model"] == model) & (facts["step"] == at)]
            finite = losses[np.isfinite(losses)]
            reading.add(
                model=model,
                step=at,
                params=row["params"].iloc[0] if len(row) else None,
                tokens=row["tokens"].iloc[0] if len(row) else None,
                task=f"losses_{task}",  # the same name is another split among the accuracies
                metric="gold_ce_loss",
                shots=0,
                score=float(finite.mean()) if len(finite) else float("nan"),
                stderr=float(finite.std(ddof=1) / len(finite) ** 0.5) if len(finite) > 1 else None,
                n_items=len(finite),
                file=name,
            )
            reading.omit("non-finite item losses", name, len(losses) - len(finite))
        frame = reading.frame().assign(source="gemstones", family="gemstones", dialect="gemstones")
        return Reading([], [frame], reading.omissions)

    def _checkpoints(self) -> pd.DataFrame:
        """Parameters and tokens of every (model, step) that a loss file lists."""
        parts = [
            pd.DataFrame(
                {
                    "model": _runs(frame["run_name"], stem)[0],
                    "step": frame["step"],
                    "params": frame["params_active_precise"].astype(float),
                    "tokens": frame["tokens"].astype(float),
                }
            )
            for _, stem, frame in self._losses
            if "ablation" not in stem
        ]
        if not parts:
            return pd.DataFrame({"model": [], "step": [], "params": [], "tokens": []})
        return pd.concat(parts).drop_duplicates(["model", "step"])

    def _pairs(self) -> list[tuple[str, pd.DataFrame, pd.DataFrame | None]]:
        """Accuracies with their standard errors; which is which shows in the size of the numbers."""
        values = [(name, frame) for name, frame in self._accuracy if frame.median().median() > 0.1]
        errors = [frame for _, frame in self._accuracy if frame.median().median() <= 0.1]
        out = []
        for name, frame in values:
            match = next((e for e in errors if e.index.equals(frame.index)), None)
            out.append((name, frame, match[frame.columns] if match is not None else None))
        return out


def _data(stem: str) -> str:
    for data in ("fineweb_edu", "fineweb_dclm"):
        if data in stem:
            return {"fineweb_dclm": "dclm"}.get(data, data)
    return "train"


def _runs(names: pd.Series, stem: str) -> tuple[pd.Series, str | None]:
    """Our model names; and the variant: cool-downs and the learning-rate ablation are runs of their own."""
    shapes = names.astype("string").str.extract(_RUN.pattern)[0]
    if shapes.isna().any():
        bad = names[shapes.isna()].iloc[0]
        raise StagewiseError(
            f"Gemstones run {bad!r}: expected a name such as Gemstone-1024x28; rename the run"
        )
    variant = None
    for part in ("cool_begin", "cool_end", "lr_ablation"):
        if part in stem:
            variant = part
    return "gemstone-" + shapes, variant

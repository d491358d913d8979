"""The Gemstones results."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scaling.errors import StagewiseError
from scaling.readers import read_scores


@pytest.fixture
def folder(tmp_path):
    runs = ["Gemstone-256x23-step_00000100", "Gemstone-256x23-main"]
    accuracy = pd.DataFrame(
        {
            "arc:challenge": [0.25, 0.265],
            "arc:easy": [0.3, 0.4],
            "commonsense_qa": [0.2, 0.3],
            "mmlu": [0.25, 0.26],
        },
        index=runs,
    )
    error = np.sqrt(accuracy * (1 - accuracy) / 999)
    error["mmlu"] = 0.033
    accuracy.to_parquet(tmp_path / "a.parquet")
    error.to_parquet(tmp_path / "b.parquet")
    losses = [
        {
            "run_name": "Gemstone-256x23",
            "step": step,
            "final_loss": loss,
            "tokens": step * 10,
            "params_active_precise": 50,
        }
        for step, loss in ((100, 4.0), (200, 3.5))
    ]
    (tmp_path / "fineweb_dclm_losses.jsonl").write_text("\n".join(json.dumps(line) for line in losses) + "\n")
    items = tmp_path / "items" / "Gemstone-256x23"
    for step, mean in (("step_00000100", 5.0), ("main", 4.0)):
        (items / step).mkdir(parents=True)
        (items / step / "losses_coqa.json").write_text(json.dumps({"main": [mean - 1, mean + 1]}))
    return tmp_path


def test_a_run(folder):
    frame = read_scores(folder).frame
    key = frame.set_index(["task", "metric", "step"])
    # The last checkpoint is called main; its step is the run's largest.
    assert key.loc[("arc_challenge_1k", "acc_norm", 200), "score"] == 0.265
    assert key.loc[("arc_challenge_1k", "acc_norm", 200), "flops"] == 6 * 50 * 2000
    assert key.loc[("arc_challenge_1k", "acc_norm", 100), "n_items"] == 1000
    assert pd.isna(key.loc[("mmlu_cloze", "acc_norm", 100), "n_items"])
    assert key.loc[("loss:gemstones_dclm", "ce_loss", 100), "score"] == 4.0
    assert frame["model"].unique().tolist() == ["gemstone-256x23"]


def test_coqa_losses_are_commonsense_qa(folder):
    frame = read_scores(folder).frame
    losses = frame[frame["metric"] == "gold_ce_loss"].set_index("step")
    assert losses["task"].unique().tolist() == ["commonsense_qa"]
    assert losses.loc[200, "score"] == 4.0 and losses.loc[100, "score"] == 5.0
    assert losses.loc[100, "stderr"] == pytest.approx(1.0)  # sd sqrt(2) over sqrt(2)
    assert losses.loc[100, "n_items"] == 2


def test_cooldowns_and_ablations_are_variants(folder):
    line = {
        "run_name": "PyGemma-256x23_pretrain",
        "step": 100,
        "final_loss": 1.0,
        "tokens": 9,
        "params_active_precise": 50,
    }
    (folder / "wandb_df_for_fitting_cool_end.jsonl").write_text(json.dumps(line) + "\n")
    line["run_name"] = "cooler_PyGemma-256x23_pretrain"
    (folder / "wandb_df_for_fitting_lr_ablation_hot_477.jsonl").write_text(json.dumps(line) + "\n")
    frame = read_scores(folder).frame
    train = frame[frame["task"] == "loss:gemstones_train"]
    assert sorted(train["variant"]) == ["cool_end", "lr_ablation"]


def test_a_strange_run_name_is_named(folder):
    line = {"run_name": "mystery", "step": 1, "final_loss": 1.0, "tokens": 9, "params_active_precise": 50}
    (folder / "x.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(StagewiseError, match="mystery"):
        read_scores(folder)

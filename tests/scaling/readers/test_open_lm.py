"""The open_lm scaling results."""

from __future__ import annotations

import json

import pytest

from scaling.errors import StagewiseError
from scaling.readers import read_scores

META = """Eval Task,Task Category,#shots,#datapoints,Random baseline
hellaswag_zeroshot,x,0,10042,25
hellaswag,x,10,10042,25
siqa,x,10,1954,50
arc_challenge,x,10,2376,25
"""


def folder(tmp_path, *, meta=True, model=True):
    for name in ("models", "evals"):
        (tmp_path / name).mkdir()
    document = {
        "name": "c4-tiny-8.0",
        "dataset_name": "c4",
        "hyperparameters": {"tokens": 1_000_000, "params": 500},
        "open_lm_args": ["--lr", "1", "--seed", "124"],
        "results": [
            {
                "loss": 3.0,
                "val_data": ["training/eval_data/val_tok_mult/openlm/shard_0.tar"],
                "sequences": 120,
                "loss_sequences_lower_95": 2.9,
                "loss_sequences_upper_95": 3.1,
            }
        ],
    }
    icl = {"hellaswag": 0.3, "hellaswag_zeroshot": 0.29, "siqa": 0.49, "arc_challenge": 0.21}
    if model:
        (tmp_path / "models/c4-tiny-8.0.json").write_text(json.dumps(document))
    (tmp_path / "evals/evaluation_c4-tiny-8.0_heavy.json").write_text(
        json.dumps({"eval_metrics": {"icl": icl}})
    )
    if meta:
        (tmp_path / "eval_metadata.csv").write_text(META)
    return tmp_path


def test_a_run(tmp_path):
    frame = read_scores(folder(tmp_path)).frame
    assert len(frame) == 5
    scores = frame.set_index(["task", "shots"])["score"]
    assert scores["hellaswag", 0] == 0.29 and scores["hellaswag", 10] == 0.3
    assert "siqa_2choice" in frame["task"].tolist() and "siqa" not in frame["task"].tolist()
    assert (frame["flops"] == 6 * 500 * 1_000_000).all()
    assert frame["step"].isna().all()  # final models only
    items = frame.set_index("task")["n_items"]
    assert items["arc_challenge"] == 1172  # the metadata says 2376
    loss = frame[frame["metric"] == "ce_loss"].iloc[0]
    assert (loss["task"], loss["n_items"]) == ("loss:openlm", 120)
    assert loss["stderr"] == pytest.approx(0.2 / (2 * 1.959964))


def test_shots_need_the_metadata(tmp_path):
    with pytest.raises(StagewiseError, match=r"eval_metadata\.csv"):
        read_scores(folder(tmp_path, meta=False))


def test_an_evaluation_without_its_model_is_counted(tmp_path):
    with pytest.raises(StagewiseError, match="without its models"):
        read_scores(folder(tmp_path, model=False))

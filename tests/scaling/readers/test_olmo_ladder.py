"""OLMo ladder in-loop CSV."""

from __future__ import annotations

import pytest

from scaling.errors import StagewiseError
from scaling.readers import read_scores

HEADER = (
    "_step,eval/c4_en-validation/CrossEntropyLoss,eval/downstream_bpb/csqa_val_rc_5shot_bpb,"
    "eval/downstream/csqa_val_rc_5shot_len_norm,eval/downstream/boolq_val_rc_5shot_acc,"
    "eval/downstream_soft/csqa_val_rc_5shot_soft,eval/downstream_soft_log/csqa_val_rc_5shot_soft_log,"
    "throughput/total_tokens,throughput/total_training_Gflops,learning_rate_peak"
)
ROWS = (
    "\n200,6.0,2.1,0.25,0.40,0.21,-1.4,1000000,5000,0.1\n400,5.0,2.0,0.30,0.62,0.22,-1.3,2000000,10000,0.1\n"
)


def test_a_run(tmp_path):
    (tmp_path / "190M-1xC.csv").write_text(HEADER + ROWS)
    frame = read_scores(tmp_path / "190M-1xC.csv").frame
    assert len(frame) == 12
    row = frame[(frame["step"] == 400) & (frame["metric"] == "acc_norm")].iloc[0]
    assert (row["task"], row["score"], row["shots"], row["n_items"]) == ("commonsense_qa", 0.30, 5, 1221)
    assert (row["params"], row["tokens"], row["flops"]) == (190354176, 2e6, 1e13)  # measured, not 6ND
    assert (row["family"], row["model"], row["seed"], row["variant"]) == (
        "olmo2-ladder",
        "190M-1xC",
        0,
        "1xC",
    )
    assert set(frame["metric"]) == {"acc", "acc_norm", "bpb", "soft", "soft_log", "ce_loss"}
    assert frame[frame["metric"] == "acc"]["task"].unique().tolist() == ["boolq"]
    assert frame[frame["metric"] == "ce_loss"]["shots"].isna().all()


def test_a_rerun_is_a_repeat_of_its_recipe(tmp_path):
    (tmp_path / "190M-1xC.csv").write_text(HEADER + ROWS)
    (tmp_path / "190M-1xC-rerun.csv").write_text(HEADER + ROWS)
    frame = read_scores(tmp_path).frame
    runs = frame[["model", "family", "variant", "seed", "params"]].drop_duplicates()
    assert sorted(runs["model"]) == ["190M-1xC", "190M-1xC-rerun"]
    assert sorted(runs["seed"]) == [0, 1]
    assert runs[["family", "variant", "params"]].drop_duplicates().shape[0] == 1


def test_missing_tokens_are_named(tmp_path):
    (tmp_path / "x.csv").write_text("_step,eval/downstream/csqa_val_rc_5shot_len_norm\n1,0.2\n")
    with pytest.raises(StagewiseError, match=r"x\.csv: no column throughput/total_tokens"):
        read_scores(tmp_path / "x.csv")

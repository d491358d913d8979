"""Item scores: what is read, where compute comes from, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.errors import StagewiseError, UsageError
from scaling.items import ItemScores
from scaling.readers import read_scores
from scaling.scores import ScoreTable

METRIC = "gold_ce_loss"


def runs_of(names=("lab-8x4", "lab-16x4"), steps=(10, 20, 30), **columns) -> ScoreTable:
    """A score table of runs whose compute is 1e18 * step * (position of the model + 1)."""
    rows = [
        {"source": "s", "model": name, "step": step, "flops": 1e18 * step * (i + 1), "task": "loss",
         "metric": "ce_loss", "score": 3.0, **columns}
        for i, name in enumerate(names) for step in steps
    ]  # fmt: skip
    return ScoreTable.from_frame(pd.DataFrame(rows))


def arrays(**changed) -> dict:
    made = {
        "model": np.array(["8x4", "8x4", "16x4"]),
        "step": np.array([10, 20, 30], dtype=np.int32),
        "loss": np.arange(12, dtype=np.float16).reshape(3, 4) + np.float16(0.5),
    }
    return {name: value for name, value in (made | changed).items() if value is not None}


def saved(path, **changed):
    path = path / "lab_items_quiz.npz"
    np.savez(path, **arrays(**changed))
    return path


def test_a_file_is_read_and_its_compute_looked_up(tmp_path):
    # Oracle: the arrays that were written, and the table's rule of compute.
    items = ItemScores.read(saved(tmp_path), runs_of())
    assert (items.task, items.metric, items.higher_is_better, items.n_items) == ("quiz", METRIC, False, 4)
    assert items.model.tolist() == ["lab-8x4", "lab-8x4", "lab-16x4"]
    assert items.flops.tolist() == [1e19, 2e19, 6e19]
    assert items.scores.dtype == np.float32
    assert np.array_equal(items.scores, arrays()["loss"])
    assert items.mean().tolist() == [2.0, 6.0, 10.0]
    assert items.mean(np.array([0, 1])).tolist() == [1.0, 5.0, 9.0]
    assert items.ids.tolist() == [0, 1, 2, 3]
    assert items.to_frame()["mean"].tolist() == items.mean().tolist()
    assert "quiz" in items._repr_html_()


def test_items_may_have_names(tmp_path):
    # Oracle: the names that were written.
    items = ItemScores.read(saved(tmp_path, item=np.array(list("abcd"))), runs_of())
    assert items.ids.tolist() == list("abcd")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("lab-8x4", "lab-16x4", "other-16x4"), "'16x4': names 2 models"),
        (("lab-18x4", "lab-16x4"), "'8x4': names none of"),  # 18x4 is another word
        (("lab-8x4",), "'16x4': names none of"),
    ],
)
def test_a_model_that_is_no_single_one_of_the_table_is_refused(tmp_path, names, said):
    with pytest.raises(StagewiseError, match=said):
        ItemScores.read(saved(tmp_path), runs_of(names))


def test_the_exact_name_goes_before_an_ending(tmp_path):
    # Oracle: the compute of the model with that very name.
    items = ItemScores.read(saved(tmp_path), runs_of(("lab-8x4", "8x4", "lab-16x4")))
    assert items.flops.tolist() == [2e19, 4e19, 9e19]


def test_two_names_for_one_model_are_refused(tmp_path):
    path = saved(tmp_path, model=np.array(["8x4", "lab-8x4", "16x4"]))
    with pytest.raises(StagewiseError, match="as '8x4' does already"):
        ItemScores.read(path, runs_of())


def test_a_file_belongs_to_the_run_that_holds_all_its_steps(tmp_path):
    # Oracle: the main run's compute; the ablation stops before step 20.
    short = runs_of(steps=(10,), variant="ablation")
    short = ScoreTable.from_frame(short.frame.assign(flops=7e17))
    main = ScoreTable.concat([runs_of(), short])
    assert ItemScores.read(saved(tmp_path), main).flops.tolist() == [1e19, 2e19, 6e19]


def test_runs_with_the_same_steps_at_other_compute_are_not_guessed_between(tmp_path):
    other = runs_of(variant="twice the batch")
    other = ScoreTable.from_frame(other.frame.assign(flops=other.frame["flops"] * 2))
    with pytest.raises(StagewiseError, match="unlike compute"):
        ItemScores.read(saved(tmp_path), ScoreTable.concat([runs_of(), other]))


LOSS = arrays()["loss"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": None}, r"missing array\(s\) loss; it has model, step"),
        ({"loss": np.where(LOSS == 5.5, np.nan, LOSS)}, "1 score.* not finite.*8x4, step 20, item 1: nan"),
        ({"loss": np.where(LOSS > 3, np.inf, LOSS)}, "9 score"),
        ({"loss": LOSS[:2]}, r"loss: float16, \[2, 4\].*with 3 checkpoints"),
        ({"loss": LOSS[0]}, r"loss: float16, \[4\]"),
        ({"loss": LOSS[:, :0]}, "is empty"),
        ({"loss": LOSS.astype(str)}, "loss: <U"),
        ({"step": np.array([10, 20])}, r"step: int64, \[2\]"),
        ({"step": np.array([10.0, 20.0, 30.0])}, "step: float64"),
        ({"step": np.array([10, 21, 30])}, r"no run of lab-8x4 has step\(s\) 21"),
        ({"model": np.array([1, 2, 3])}, "model: int64"),
        ({"model": np.array(["8x4", "8x4", ""])}, "model '': names none"),
        ({"step": np.array([10, 10, 30])}, "duplicate checkpoint.* lab-8x4 step 10"),
        ({"item": np.array(["a", "b"])}, r"item: <U1, \[2\]"),
        ({"item": np.array(list("abca"))}, "items with the same name"),
        ({"model": np.array(["8x4", "8x4", "16x4"], dtype=object)}, "not a readable npz"),
    ],
)
def test_every_defect_is_named(tmp_path, changed, said):
    with pytest.raises(StagewiseError, match=said) as raised:
        ItemScores.read(saved(tmp_path, **changed), runs_of())
    assert "quiz" in str(raised.value)


def test_several_defects_come_in_one_message(tmp_path):
    path = saved(tmp_path, step=np.array([10, 10, 31]), loss=np.where(LOSS == 5.5, np.nan, LOSS))
    with pytest.raises(StagewiseError) as raised:
        ItemScores.read(path, runs_of())
    for said in ("3 defect(s)", "not finite", "duplicate", "step(s) 31"):
        assert said in str(raised.value)


def test_what_is_no_npz_is_refused(tmp_path):
    with pytest.raises(StagewiseError, match="no such file"):
        ItemScores.read(tmp_path / "nothing.npz", runs_of())
    for name, content in {"empty.npz": b"", "text.npz": b"hello", "cut.npz": b"PK\x03\x04 cut"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StagewiseError, match="not a readable npz"):
            ItemScores.read(tmp_path / name, runs_of())
    np.save(tmp_path / "single.npy", LOSS)
    with pytest.raises(StagewiseError, match="a single array"):
        ItemScores.read(tmp_path / "single.npy", runs_of())
    whole = saved(tmp_path).read_bytes()
    middle = len(whole) // 2
    (tmp_path / "bent.npz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(StagewiseError):
        ItemScores.read(tmp_path / "bent.npz", runs_of())


def test_a_metric_of_unknown_direction_needs_one(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(UsageError, match="higher_is_better"):
        ItemScores.read(path, runs_of(), metric="never_heard_of_it")
    items = ItemScores.read(path, runs_of(), metric="never_heard_of_it", higher_is_better=True)
    assert items.sign == 1.0


def long_frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(m, s, 1e18 * s, i, rng.normal()) for m in ("b", "a") for s in (2, 1) for i in ("q2", "q1", "q3")]
    return pd.DataFrame(rows, columns=["model", "step", "flops", "item", "score"])


def test_a_long_frame_gives_the_same_numbers():
    # Oracle: pandas look-up of each number.
    frame = long_frame()
    items = ItemScores.from_frame(frame.sample(frac=1, random_state=1), task="t", metric=METRIC)
    found = frame.set_index(["model", "step", "item"])["score"]
    for c in range(4):
        for i in range(3):
            assert items.scores[c, i] == found[items.model[c], items.step[c], items.ids[i]]
    assert items.flops.tolist() == (1e18 * items.step).tolist()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.drop(columns="flops"), "missing column.*flops"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.iloc[1:], "1 checkpoint and item pair.* without a number"),
        (lambda f: pd.concat([f, f.iloc[:2]]), "2 number.* has one already"),
        (lambda f: f.assign(flops=np.arange(len(f)) + 1.0), "more than one value of flops"),
        (lambda f: f.assign(flops=0.0), "not positive"),
        (lambda f: f.assign(score=np.nan), "12 score.* not finite"),
        (lambda f: f.assign(step="one"), "step not numeric"),
        (lambda f: f.assign(item=pd.NA), "NA in model, step or item"),
    ],
)
def test_a_spoilt_frame_is_refused(spoil, said):
    with pytest.raises(StagewiseError, match=said):
        ItemScores.from_frame(spoil(long_frame()), task="t", metric=METRIC)


def test_where_keeps_checkpoints():
    # Oracle: numpy indexing.
    items = ItemScores.from_frame(long_frame(), task="t", metric=METRIC)
    part = items.where(items.model == "a")
    assert set(part.model) == {"a"} and np.array_equal(part.scores, items.scores[items.model == "a"])
    with pytest.raises(UsageError, match="valid is bool"):
        items.where(np.array([1, 0, 1, 0]))
    with pytest.raises(StagewiseError, match="no checkpoint left"):
        items.where(np.zeros(4, dtype=bool))


def test_real_items_belong_to_the_main_runs(shared):
    """Oracle: the score table's own benchmark means of four checkpoints, rounded to half precision here."""
    path, archive = shared / "scores" / "items", shared / "sources" / "gemstones.tar.zst"
    if not path.is_dir() or not archive.is_file():
        pytest.skip("no item scores among the real inputs")
    table = read_scores([archive], drop_bad=True)
    items = ItemScores.read(path / "gemstones_items_openbookqa.npz", table)
    assert (items.task, items.scores.shape, len(set(items.model))) == ("openbookqa", (770, 500), 22)
    frame = table.frame
    means = frame[(frame["task"] == "openbookqa") & (frame["metric"] == METRIC) & frame["variant"].isna()]
    assert len(means) == 4
    mine = pd.Series(items.mean(), index=zip(items.model, items.step, strict=True))
    for row in means.itertuples():
        assert mine[row.model, row.step] == pytest.approx(row.score, abs=1e-3)

"""How far off the forecasts would have been."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling.backtests import OURS, Backtest, backtest
from scaling.baselines import BASELINES
from scaling.errors import StagewiseError, UsageError
from scaling.readers import read_scores
from scaling.scores import ScoreTable
from scaling.series import with_runs
from tests.scaling.synthetic import facts, frame_of, gompertz, power, sigmoid

ACCURACY = {
    "a": sigmoid(0.22, 0.81, 20.0, 1.5),
    "b": gompertz(0.2, 0.85, 19.8, 1.1),
    "c": sigmoid(0.25, 0.6, 19.5, 2.0),
}
BITS = {"a": power(0.55, 0.5, 0.21), "b": power(0.4, 0.6, 0.15)}
CUT = 10**20.55  # of 12 runs from 1e18 to 1e22, eight lie below


def frame(**options) -> pd.DataFrame:
    options = {"runs": 12, "checkpoints": 3} | options
    return pd.concat(
        [frame_of(ACCURACY, **options), frame_of(BITS, metric="bpb", **options)], ignore_index=True
    )


def backtested(rows: pd.DataFrame, **options) -> Backtest:
    options = options if {"cut_flops", "cut_params"} & set(options) else options | {"cut_flops": CUT}
    return backtest(ScoreTable.from_frame(rows), facts=facts(), **options)


@pytest.fixture(scope="module")
def noisy() -> pd.DataFrame:
    """Two families of runs with effects of their own, one better than the other, and a loss on two texts."""
    parts = []
    for i, family in enumerate(("one", "other")):
        rows = frame(run_sd=0.015, seed=i).assign(family=family)
        rows["model"] = family + rows["model"]
        rows["score"] = np.where(rows["metric"] == "acc", rows["score"] - 0.1 * i, rows["score"] + 0.1 * i)
        text = rows[(rows["task"] == "a") & (rows["metric"] == "bpb")]
        text = text.assign(metric="ce_loss", shots=pd.NA, n_items=pd.NA)
        texts = [text.assign(task=f"text{k}", score=1.0 + text["score"] ** k) for k in (1, 2)]
        parts += [rows, *texts]
    return pd.concat(parts, ignore_index=True)


def test_a_planted_world():
    """Oracle: planted truth without noise: the forecast is right where a straight line is not."""
    found = backtested(frame())
    for family, close in (("proportion", 0.1), ("bits", 0.002)):
        part = found.rows[found.rows["family"] == family]
        error = part.groupby("method")["error"]
        assert error.max()[OURS] < close
        assert error.mean()["linear"] > 20 * close and error.mean()["last value"] > 20 * close
    assert set(found.rows["method"]) >= {OURS, *BASELINES, "method: sigmoid", "method: power"}
    assert found.cut == "learned from 8 run(s) up to 3.55e+20 FLOPs, 4 above it" and not found.omissions


def test_the_rows():
    # Oracle: the truth at the targets; points of a proportion, units of bits.
    rows = backtested(frame()).rows
    ours = rows[rows["method"] == OURS]
    assert len(ours) == 5 * 4 and ours["group"].unique() == ["all"]
    x = np.log10(ours["flops"].to_numpy())
    for metric, truths in (("acc", ACCURACY), ("bpb", BITS)):
        for task, truth in truths.items():
            mine = ((ours["task"] == task) & (ours["metric"] == metric)).to_numpy()
            assert ours["observed"][mine].to_numpy() == pytest.approx(truth(x[mine]))
    largest_below = 18 + 4 * 7 / 11
    assert ours["beyond"].to_numpy() == pytest.approx(10.0 ** (x - largest_below))
    off = (rows["predicted"] - rows["observed"]).abs()
    scale = np.where(rows["family"] == "proportion", 100.0, 1.0)
    assert np.allclose(rows["error"], scale * off, equal_nan=True)
    assert np.allclose(rows["relative"], off / rows["observed"], equal_nan=True)
    assert rows.loc[rows["method"] != OURS, ["low", "high"]].isna().all(axis=None)


def predictions(found: Backtest) -> pd.DataFrame:
    names = ["group", "task", "metric", "shots", "flops", "method"]
    return found.rows.sort_values(names, ignore_index=True)[[*names, "predicted", "low", "high"]]


@pytest.mark.parametrize("by", [None, "family"])
def test_the_runs_above_the_cut_have_no_influence(noisy, by):
    """Oracle: the same table with other scores, and other checkpoints, of all runs above the cut."""
    rows = noisy[noisy["task"].isin(["a", "b", "text1", "text2"])]
    # Without bits of its own, b goes through one of the texts.
    rows = rows[~((rows["task"] == "b") & (rows["metric"] == "bpb"))].reset_index(drop=True)
    flops = 6 * rows["params"] * rows["tokens"]
    above = flops.groupby([rows["family"], rows["model"]]).transform("max") > CUT
    other = rows.copy()
    values = np.random.default_rng(0).uniform(0.0, 1.0, int(above.sum()))
    other.loc[above, "score"] = np.where(other.loc[above, "metric"] == "ce_loss", 1 + values, values)
    other = other[~(above & (other["step"] == 500))]
    found, moved = backtested(rows, by=by), backtested(other, by=by)
    pd.testing.assert_frame_equal(predictions(found), predictions(moved), check_exact=True)
    assert not np.allclose(found.rows["observed"], moved.rows["observed"])


def test_groups_are_kept_apart(noisy):
    # Oracle: each family alone; pooled, the other family has its say.
    apart = backtested(noisy, by="family")
    assert set(apart.rows["group"]) == {"one", "other"}
    for family in ("one", "other"):
        alone = predictions(backtested(noisy[noisy["family"] == family])).drop(columns="group")
        there = predictions(apart)
        there = there[there["group"] == family].drop(columns="group").reset_index(drop=True)
        pd.testing.assert_frame_equal(there, alone)
    pooled = backtested(noisy)
    error = [one.rows[one.rows["method"] == OURS]["error"].mean() for one in (apart, pooled)]
    assert error[0] < error[1]
    assert len(apart.rows) == len(pooled.rows)


def test_a_cut_by_size_is_a_cut_by_compute_where_both_grow_together():
    # Oracle: the same runs lie below, at 20 tokens per parameter.
    rows = frame(run_sd=0.01)
    by_size = backtested(rows, cut_params=np.sqrt(CUT / 120.0))
    pd.testing.assert_frame_equal(by_size.rows, backtested(rows).rows)
    assert "parameters" in by_size.cut


def test_a_run_lies_below_with_all_its_checkpoints():
    # Oracle: by construction: a run that ends above the cut lends no checkpoint to the data.
    rows = frame(run_sd=0.01)
    ends = (6 * rows["params"] * rows["tokens"]).groupby(rows["model"]).transform("max")
    early = backtested(rows[(ends <= CUT) | (rows["step"] == 1000)])
    pd.testing.assert_frame_equal(backtested(rows).rows, early.rows)


def test_early_checkpoints_of_large_runs_are_not_learned_from():
    # Oracle: by hand: they have less compute than the cut, and may say anything.
    rows = frame(run_sd=0.01, checkpoints=5)
    flops = 6 * rows["params"] * rows["tokens"]
    rows["model"] = rows["model"].where(
        flops.groupby(rows["model"]).transform("max") <= CUT, "large" + rows["model"]
    )
    large = rows["model"].str.startswith("large")
    cut = float(flops[large].min() * 1.05)
    assert (flops[large] < cut).any() and flops[~large].max() < cut
    moved = rows.assign(score=rows["score"].mask(large & (flops < cut), 0.9))
    found = backtested(rows, cut_flops=cut)
    pd.testing.assert_frame_equal(found.rows, backtested(moved, cut_flops=cut).rows)
    assert set(found.rows["model"]) == set(rows.loc[large, "model"])
    ends = flops[large].groupby(rows["model"]).max()
    assert found.rows.groupby("model")["flops"].first().to_dict() == pytest.approx(ends.to_dict())


def test_targets_by_size():
    # Oracle: counting runs; ends included.
    rows = frame(run_sd=0.01)
    sizes = np.sort(rows["params"].unique())
    whole = backtested(rows, cut_params=sizes[7])
    found = backtested(rows, cut_params=sizes[7], target_params=(sizes[9], sizes[10]))
    assert found.cut.endswith("2 above it")
    flops = 120 * sizes[9:11] ** 2
    assert np.sort(found.rows["flops"].unique()) == pytest.approx(flops)
    kept = whole.rows[np.isclose(whole.rows["flops"].to_numpy()[:, None], flops).any(axis=1)]
    pd.testing.assert_frame_equal(predictions(found), predictions(Backtest(kept, "")))


def test_runs_of_unknown_size_or_compute_lie_on_neither_side():
    # Oracle: the table without them, and their count.
    rows = frame(run_sd=0.01)
    lost = rows[rows["model"].isin(["run002", "run010"])].copy()
    known = rows[~rows["model"].isin(["run002", "run010"])]
    lost["flops"] = 6 * lost["params"] * lost["tokens"]
    sizeless = pd.concat([known, lost.assign(params=np.nan)])
    cut = np.sqrt(CUT / 120.0)
    found = backtested(sizeless, cut_params=cut)
    pd.testing.assert_frame_equal(predictions(found), predictions(backtested(known, cut_params=cut)))
    assert [(one.what, one.count) for one in found.omissions] == [
        ("no known compute or parameters", len(lost))
    ]
    nowhere = backtested(pd.concat([known, lost.assign(flops=np.nan, params=np.nan)]))
    assert [(one.what, one.count) for one in nowhere.omissions] == [("no known compute", len(lost))]


def test_tasks_with_too_few_runs_on_one_side_are_counted():
    # Oracle: by construction: c was scored above the cut alone.
    rows = frame(run_sd=0.01)
    flops = (6 * rows["params"] * rows["tokens"]).groupby(rows["model"]).transform("max")
    found = backtested(rows[(rows["task"] != "c") | (flops > CUT)])
    assert set(found.rows["task"]) == {"a", "b"}
    assert [(one.what, one.count) for one in found.omissions] == [("too few runs on one side of the cut", 1)]


def made(errors: dict[str, list[float]], **ours) -> Backtest:
    """A back-test with these errors per method, one task per entry unless `task` says otherwise."""
    count = len(errors[OURS])
    base = {
        "group": "all", "family": "proportion", "task": [f"t{i}" for i in range(count)], "metric": "acc",
        "shots": 0, "run": range(count), "flops": 1e22, "beyond": 3.0, "observed": 0.5,
    }  # fmt: skip
    own = {"low": np.nan, "high": np.nan} | {k: v for k, v in ours.items() if k in ("low", "high")}
    base |= {k: v for k, v in ours.items() if k not in own}
    frames = [
        pd.DataFrame(base | {"method": name, "error": values} | (own if name == OURS else {}))
        for name, values in errors.items()
    ]
    return Backtest(pd.concat(frames, ignore_index=True), "by hand")


def test_the_summary_by_hand():
    # Oracle: arithmetic.
    found = made(
        {OURS: [1.0, 2.0, 6.0, 3.0], "linear": [3.0, np.nan, 9.0, 1.0]},
        low=[0.4, 0.6, np.nan, 0.45], high=[0.6, 0.7, np.nan, 0.55],
    ).summary().set_index("method")  # fmt: skip
    ours, line = found.loc[OURS], found.loc["linear"]
    assert (ours["mean"], ours["median"], ours["largest"], ours["targets"], ours["failed"]) == (
        3,
        2.5,
        6,
        4,
        0,
    )
    assert ours["identified"] == 0.75 and ours["covered"] == pytest.approx(2 / 3)
    assert (line["targets"], line["failed"], line["largest"]) == (3, 1, 9)
    assert line["mean"] == pytest.approx(13 / 3)
    assert line["relative"] == pytest.approx(13 / 3 / 100 / 0.5)  # points, of an observed 0.5
    # Where the line gave no number, nothing is compared.
    assert line["gain"] == pytest.approx((2 + 3 - 2) / 3)
    assert np.isnan(ours["gain"]) and np.isnan(line["covered"])


def test_the_gain_has_a_bootstrap_interval_over_tasks():
    # Oracle: scipy.stats.bootstrap (percentile) over the tasks' mean gains.
    rng = np.random.default_rng(5)
    errors = {OURS: rng.exponential(1, 60), "linear": rng.exponential(1.5, 60)}
    tasks = [f"t{i % 30}" for i in range(60)]
    found = made(errors, task=tasks)
    line = found.summary(resamples=20_000).set_index("method").loc["linear"]
    gain = (errors["linear"] - errors[OURS]).reshape(2, 30).mean(axis=0)
    oracle = stats.bootstrap((gain,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert line["gain_low"] == pytest.approx(oracle.confidence_interval.low, abs=0.02)
    assert line["gain_high"] == pytest.approx(oracle.confidence_interval.high, abs=0.02)
    assert line["gain_low"] < line["gain"] < line["gain_high"]
    pd.testing.assert_frame_equal(found.summary(seed=3), found.summary(seed=3))
    assert not found.summary(seed=3).equals(found.summary(seed=4))


def test_by_task():
    # Oracle: pandas, by hand; a method that failed counts in no mean.
    found = made({OURS: [1.0, 3.0, 5.0], "linear": [2.0, np.nan, 4.0]}, task=["b", "b", "a"]).by_task()
    assert found.columns.tolist() == ["task", "metric", "shots", OURS, "linear"]
    assert found["task"].tolist() == ["a", "b"]
    assert found[OURS].tolist() == [5.0, 2.0] and found["linear"].tolist() == [4.0, 2.0]


def test_what_is_shown(noisy):
    found = backtested(noisy[noisy["family"] == "one"])
    assert found.cut in found._repr_html_() and found.to_frame() is found.rows
    assert set(found.summary()["family"]) == {"proportion", "bits", "loss"}
    assert found.by_task().columns[3:8].tolist() == [OURS, *BASELINES]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "cut: give cut_flops .--cut. or cut_params"),
        ({"cut_flops": 1e20, "cut_params": 1e9}, "one of them"),
        ({"cut_flops": 0.0}, "cut: got 0.0, valid is a positive number"),
        ({"cut_params": np.nan}, "cut: got nan"),
        ({"cut_flops": np.inf}, "cut: got inf"),
        ({"cut_flops": 1e20, "by": "model"}, "by: got 'model', valid are family, variant, source"),
        ({"cut_flops": 1e20, "level": 95}, "level: got 95, valid is between 0 and 1"),
        ({"cut_flops": 1e20, "target_params": (2e9, 1e9)}, "target_params: got"),
    ],
)
def test_bad_arguments_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        backtest(ScoreTable.from_frame(frame()), facts=facts(), **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cut_flops": 1e17}, "0 run.s. up to 1e.17 FLOPs, 12 above it; choose a cut"),
        ({"cut_flops": 1e23}, "12 run.s. up to 1e.23 FLOPs, 0 above it"),
        ({"cut_flops": 10**18.1}, "no task has runs on both sides"),
        ({"cut_flops": CUT, "target_params": (1e15, 1e16)}, "8 run.s. up to .*, 0 above it"),
    ],
)
def test_a_cut_needs_runs_on_both_sides(options, text):
    with pytest.raises(StagewiseError, match=text):
        backtest(ScoreTable.from_frame(frame(checkpoints=1)), facts=facts(), **options)


@pytest.mark.slow
def test_pythia(shared):
    """Eight tasks of Pythia v1, models up to 1.4B -> 6.9B and 12B: off by 2.7 points at most on average."""
    table = read_scores([shared / "sources" / "pythia_evals.tar.zst"], drop_bad=True)
    rows = table.frame
    eight = ["arc_easy", "arc_challenge", "lambada_openai", "logiqa", "piqa", "sciq", "winogrande", "wsc"]
    kept = (
        rows["family"].isin(["pythia-v1", "pythia-v1-deduped"]) & rows["variant"].isna()
        & (rows["metric"] == "acc") & (rows["shots"] == 0) & rows["task"].isin(eight)
    )  # fmt: skip
    table = table.where(kept.fillna(False), "not asked here")
    found = backtest(table, cut_params=1.5e9, target_params=(5e9, 2e10))
    assert with_runs(table.frame)["run"].nunique() == 15
    summary = found.summary().set_index("method")
    assert summary.loc[OURS, "targets"] == 8 * 4
    assert summary.loc[OURS, "mean"] <= 2.7
    assert summary.loc["linear", "gain_low"] > 0 and summary.loc["last value", "gain_low"] > 0

"""What a larger run will score, from a table."""

from __future__ import annotations

from collections import Counter

import joblib
import numpy as np
import pandas as pd
import pytest

from scaling.backtests import backtest
from scaling.errors import StagewiseError, UsageError
from scaling.forecasts import PIECE, Forecasts, forecast, forecast_all, pieces_of
from scaling.models import known_models, model_info
from scaling.panel import panels_of
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.scaling.panels import points, scored
from tests.scaling.synthetic import facts, frame_of, gompertz, power, sigmoid

ACCURACY = {"a": sigmoid(0.22, 0.81, 20.3, 1.5), "b": gompertz(0.2, 0.85, 20.2, 1.1)}
BITS = {"a": power(0.55, 0.5, 0.21), "b": power(0.4, 0.6, 0.15)}


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    """Two tasks in accuracy and in bits, of ten runs with effects of their own; accuracy 0- and 5-shot."""
    accuracy = frame_of(ACCURACY, runs=10, checkpoints=3, run_sd=0.015)
    more = frame_of({"a": ACCURACY["a"]}, runs=10, checkpoints=3, run_sd=0.015, seed=1).assign(shots=5)
    bits = frame_of(BITS, runs=10, checkpoints=3, run_sd=0.01, metric="bpb")
    return ScoreTable.from_frame(pd.concat([accuracy, more, bits]))


@pytest.fixture(scope="module")
def all_of_them(table) -> Forecasts:
    return forecast_all(table, [1e23, 3e22], facts=facts())


def test_without_noise_it_is_the_truth():
    # Oracle: planted truths, ten times beyond the data.
    frames = [
        frame_of(ACCURACY, runs=10, checkpoints=3),
        frame_of(BITS, runs=10, checkpoints=3, metric="bpb"),
    ]
    found = forecast_all(ScoreTable.from_frame(pd.concat(frames)), 1e23, facts=facts())
    for one in found:
        truth = (ACCURACY if one.key.metric == "acc" else BITS)[one.key.task]
        assert one.value[0] == pytest.approx(truth(np.array([23.0]))[0], abs=2e-3)
        assert one.low[0] <= one.value[0] <= one.high[0]


def test_all_are_there_in_order(all_of_them):
    # Oracle: the keys of the table, sorted.
    keys = [
        Key("a", "acc", 0),
        Key("a", "acc", 5),
        Key("a", "bpb", 0),
        Key("b", "acc", 0),
        Key("b", "bpb", 0),
    ]
    assert [one.key for one in all_of_them] == keys and len(all_of_them) == 5
    bridges = {str(one.key): one.bridge for one in all_of_them}
    assert bridges["a (acc, 5-shot)"] == bridges["a (acc, 0-shot)"] == "a (bpb, 0-shot)"
    assert bridges["b (bpb, 0-shot)"] == ""


def test_one_is_what_it_is_among_all(table, all_of_them):
    # Oracle: forecast_all.
    for one in all_of_them:
        alone = forecast(
            table, one.key.task, [1e23, 3e22], metric=one.key.metric, shots=one.key.shots, facts=facts()
        )
        pd.testing.assert_frame_equal(alone.to_frame(), one.to_frame(), rtol=1e-9)
        pd.testing.assert_frame_equal(alone.methods, one.methods, rtol=1e-9)
        assert np.array_equal(alone.panel.y, one.panel.y) and alone.panel.keys == (one.key,)


def test_the_frame(all_of_them):
    # Oracle: by hand.
    frame = all_of_them.to_frame()
    assert len(frame) == 10 and frame["shots"].dtype == "Int64"
    assert frame["flops"].tolist() == [1e23, 3e22] * 5
    assert frame["beyond"].to_numpy() == pytest.approx([10.0, 3.0] * 5)
    assert set(frame["n_runs"]) == set(frame["n_clusters"]) == {10}
    known = frame["status"] == "identified"
    assert known.any() and (known == frame["low"].notna()).all() and (known == frame["high"].notna()).all()
    first = next(iter(all_of_them))
    weights = first.methods.set_index("method")
    assert weights["weight"].sum() == pytest.approx(1.0)
    assert (weights["weight"] * weights["value"].fillna(0)).sum() == pytest.approx(first.value[0])
    assert "not identified" in all_of_them._repr_html_() or known.all()
    assert "past_rmse" in first._repr_html_()


def test_shots_may_be_unknown():
    # Oracle: by construction.
    frame = frame_of({"a": ACCURACY["a"]}, runs=8, checkpoints=2).assign(shots=pd.NA)
    found = forecast_all(ScoreTable.from_frame(frame), 1e23, facts=facts())
    assert found.to_frame()["shots"].isna().all() and next(iter(found)).key.shots is None


def test_the_target_has_the_ratio_of_the_largest_runs():
    # Oracle: planted exponent; the three largest runs have 100 tokens per parameter.
    truth = ACCURACY["a"]
    at = points(runs=14, checkpoints=1, ratios=(1.0, 2.0, 0.7))
    ratio = np.where(np.arange(14) >= 11, 2.0, at.ratio)
    seen = truth(at.x + 0.3 * (ratio - 1.3))
    frame = pd.DataFrame(
        {
            "source": "s", "family": "f", "model": [f"m{i}" for i in range(14)], "task": "a", "metric": "acc",
            "params": np.sqrt(10.0 ** (at.x - ratio) / 6), "tokens": np.sqrt(10.0 ** (at.x + ratio) / 6),
            "score": seen,
        }
    )  # fmt: skip
    table = ScoreTable.from_frame(frame)
    for options, log_ratio in (({}, 2.0), ({"tokens_per_param": 10.0}, 1.0)):
        found = forecast(table, "a", 1e23, facts=facts(), **options)
        assert found.exponent == pytest.approx(0.3)
        assert found.value[0] == pytest.approx(truth(np.array([23 + 0.3 * (log_ratio - 1.3)]))[0], abs=1e-3)


def test_bytes_are_tokens_where_one_tokenizer_counts_them():
    # Oracle: closed form: one factor moves the axis and the targets alike.
    factors = Counter(model_info(name).bytes_per_token for name in known_models())
    factor = max((f for f in factors if f), key=lambda f: factors[f])
    names = [name for name in known_models() if model_info(name).bytes_per_token == factor][:10]
    assert len(names) == 10
    frame = frame_of(ACCURACY, runs=10, checkpoints=1, run_sd=0.015)
    frame["model"] = frame["model"].map(lambda name: names[int(name[3:])])
    rng = np.random.default_rng(0)
    part = {name: 10.0**shift for name, shift in zip(names, rng.normal(0, 0.3, 10), strict=True)}
    frame["params"] /= frame["model"].map(part)
    table = ScoreTable.from_frame(frame)
    options = {"tokens_per_param": 50.0, "facts": facts()}
    flops = forecast_all(table, 1e23, **options)
    text = forecast_all(table, 1e23, axis="bytes", bytes_per_token=factor, **options)
    for one, other in zip(flops, text, strict=True):
        assert other.flops == pytest.approx(one.flops * factor) and other.axis == "bytes"
        assert other.exponent == one.exponent
        for name in ("value", "low", "high", "beyond"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-5, nan_ok=True)


def test_bytes_per_token_move_nothing_on_the_axis_of_flops(table):
    # Oracle: the same question without them.
    options = {"metric": "bpb", "tokens_per_param": 40.0, "facts": facts()}
    plain = forecast(table, "a", 1e23, **options)
    told = forecast(table, "a", 1e23, bytes_per_token=3.8, **options)
    pd.testing.assert_frame_equal(told.to_frame(), plain.to_frame())
    assert np.array_equal(told.blend.ratio, plain.blend.ratio) and plain.blend.ratio[0] == np.log10(40.0)


def test_pieces_hold_every_task_once():
    # Oracle: counting.
    at = points(runs=3, checkpoints=2)
    panel = scored(at, *[at.x / 50] * (2 * PIECE + 5))
    pieces = list(pieces_of([panel, panel.tasks([0])]))
    sizes = [len(piece.keys) for piece in pieces]
    assert (
        sizes[-1] == 1 and sum(sizes) == 2 * PIECE + 6 and max(sizes) <= PIECE and min(sizes[:-1]) > PIECE / 2
    )
    assert [key for piece in pieces[:-1] for key in piece.keys] == list(panel.keys)


def held_out(table) -> pd.DataFrame:
    return backtest(table, cut_flops=10**20.5, facts=facts()).to_frame()


def test_workers_give_the_same_numbers(table, all_of_them):
    # Oracle: the loop, bit for bit.
    assert len(list(pieces_of(panels_of(table, facts=facts())[0]))) > 1
    told = []
    found = forecast_all(table, [1e23, 3e22], jobs=2, facts=facts(), progress=lambda *now: told.append(now))
    pd.testing.assert_frame_equal(found.to_frame(), all_of_them.to_frame(), check_exact=True)
    assert told[-1][0] == told[-1][1] == len(told)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_numbers(table, all_of_them):
    """Oracle: the loop, bit for bit, on two worker processes."""
    distributed = pytest.importorskip("distributed", reason="make test installs it")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        found = [forecast_all(table, [1e23, 3e22], facts=facts()).to_frame(), held_out(table)]
    for one, other in zip(found, [all_of_them.to_frame(), held_out(table)], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target_flops": 0.0}, "target_flops: got 0.0, valid are positive"),
        ({"target_flops": [1e22, -1.0]}, "target_flops"),
        ({"target_flops": np.nan}, "target_flops"),
        ({"target_flops": np.inf}, "target_flops"),
        ({"target_flops": []}, "target_flops"),
        ({"target_flops": [[1e22]]}, "target_flops"),
        ({"level": 1.0}, "level: got 1.0"),
        ({"tokens_per_param": -1.0}, "tokens_per_param: got -1.0"),
        ({"axis": "tokens"}, "axis: got 'tokens', valid are 'flops' and 'bytes'"),
        ({"axis": "bytes"}, "bytes_per_token: got None"),
        ({"axis": "bytes", "bytes_per_token": 0.0}, "bytes_per_token: got 0.0"),
    ],
)
def test_bad_arguments_are_refused(table, options, text):
    options = {"target_flops": 1e23} | options
    with pytest.raises(UsageError, match=text):
        forecast_all(table, **options)
    with pytest.raises(UsageError, match=text):
        forecast(table, "b", metric="acc", **options)


def test_a_task_that_is_not_there(table):
    with pytest.raises(UsageError, match="task 'c': no scores; valid are a, b"):
        forecast(table, "c", 1e23)


@pytest.mark.parametrize(
    ("options", "there"),
    [
        ({}, r"a \(acc, 0-shot\), a \(acc, 5-shot\), a \(bpb, 0-shot\)"),
        ({"metric": "acc"}, r"a \(acc, 0-shot\), a \(acc, 5-shot\)$"),
        ({"metric": "f1"}, r"a \(acc, 0-shot\), a \(acc, 5-shot\), a \(bpb, 0-shot\)"),
    ],
)
def test_a_task_with_several_metrics(table, options, there):
    with pytest.raises(UsageError, match=f"task 'a': give metric and shots; there are {there}"):
        forecast(table, "a", 1e23, facts=facts(), **options)


def test_a_table_without_compute_says_so(table):
    frame = table.frame.assign(flops=np.nan, tokens=np.nan)
    with pytest.raises(StagewiseError, match=r"nothing to forecast from: 150 row\(s\): no known compute"):
        forecast_all(ScoreTable.from_frame(frame), 1e23)


def test_what_was_left_out_is_told(table):
    # Oracle: counting.
    odd = table.frame.query("task == 'b' and metric == 'acc'")[:7].assign(metric="never_heard_of_it")
    found = forecast_all(ScoreTable.from_frame(pd.concat([table.frame, odd])), 1e23, facts=facts())
    assert [(one.what, one.count) for one in found.omissions] == [("metric without a law", 7)]

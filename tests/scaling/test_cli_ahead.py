"""`scaling forecast` and `scaling backtest`: what they print, what they write, and how they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.backtests import OURS, backtest
from scaling.baselines import BASELINES
from scaling.forecasts import forecast_all
from scaling.models import model_info
from scaling.scores import ScoreTable
from tests.scaling import synthetic
from tests.scaling.test_cli import call, strict

RISING = {f"rises{i}": synthetic.sigmoid(0.25, 0.85, 20.5 + 0.25 * i, 1.2) for i in range(7)}
FLAT = {f"flat{i}": synthetic.constant(0.3 + 0.05 * i) for i in range(7)}
CUT = "1e21"


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    """Accuracies of two tasks, bits per byte of one of them."""
    accuracy = {"piqa": synthetic.sigmoid(0.5, 0.9, 20.5, 1.5), "boolq": synthetic.constant(0.5)}
    parts = [
        synthetic.frame_of(accuracy, checkpoints=3, run_sd=0.004, checkpoint_sd=0.004),
        synthetic.frame_of(
            {"piqa": synthetic.power(0.4, 0.5, 0.2)}, metric="bpb", checkpoints=3, checkpoint_sd=0.002
        ),
    ]
    return ScoreTable.from_frame(pd.concat(parts, ignore_index=True))


@pytest.fixture(scope="module")
def scores(table, tmp_path_factory) -> str:
    return _written(table, tmp_path_factory, "scores")


@pytest.fixture(scope="module")
def rising(tmp_path_factory) -> str:
    return _written(
        synthetic.table_of(RISING, checkpoints=3, run_sd=0.003, checkpoint_sd=0.003),
        tmp_path_factory,
        "rising",
    )


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> str:
    return _written(
        synthetic.table_of(FLAT, checkpoints=3, run_sd=0.01, checkpoint_sd=0.01), tmp_path_factory, "flat"
    )


@pytest.fixture(scope="module")
def printed(rising) -> str:
    return call("backtest", rising, "--cut", CUT, "--tasks").stdout


@pytest.fixture(scope="module")
def told(rising) -> dict:
    return strict(call("backtest", rising, "--cut", CUT, "--seed", "3", "--json").stdout)


def _written(table: ScoreTable, factory, name: str) -> str:
    path = factory.mktemp(name) / "scores.parquet"
    table.write(path)
    return str(path)


def row_of(stdout: str, *words: str) -> str:
    """The one line that begins with these words."""
    found = [line for line in stdout.splitlines() if tuple(line.split()[: len(words)]) == words]
    assert len(found) == 1, (words, stdout)
    return found[0]


@pytest.mark.parametrize("command", ["forecast", "backtest"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: scaling {command}" in call(command, "--help").stdout


def test_forecast_prints_a_row_per_task_and_target(scores, table) -> None:
    """Oracle: forecast_all."""
    done = call("forecast", scores, "--target", "1e23", "--target", "3e22", "--metric", "acc")
    assert "1e23" in done.stdout.splitlines()[0] and "3e22" in done.stdout.splitlines()[0]
    assert sum("piqa" in line for line in done.stdout.splitlines()) == 2
    assert "bpb" not in "\n".join(line[:40] for line in done.stdout.splitlines())
    found = {one.key: one for one in forecast_all(table, [1e23, 3e22])}
    piqa = found["piqa", "acc", 0]
    line = next(line for line in done.stdout.splitlines() if line.startswith("piqa") and " 1e23 " in line)
    assert f"{piqa.value[0]:.4g}" in line and f"{piqa.beyond[0]:.3g}x" in line
    assert "\x1b" not in done.stdout


def test_forecast_says_where_no_interval_is_identified(tmp_path_factory) -> None:
    """Planted: three runs are fewer than an interval needs."""
    path = _written(
        synthetic.table_of({"piqa": synthetic.sigmoid(0.5, 0.9, 20, 2)}, runs=3), tmp_path_factory, "3"
    )
    assert "not identified" in row_of(call("forecast", path, "--target", "1e23").stdout, "piqa", "acc")
    found = strict(call("forecast", path, "--target", "1e23", "--json").stdout)
    target = found["forecasts"][0]["targets"][0]
    assert target["status"] == "not identified" and target["low"] is None and target["high"] is None


def test_forecast_json_has_values_methods_and_weights(scores, table) -> None:
    """Oracle: forecast_all with the same arguments."""
    done = call(
        "forecast", scores, "--target", "1e23", "--tokens-per-param", "20", "--level", "0.9", "--json"
    )
    found = strict(done.stdout)
    assert found["settings"]["level"] == 0.9 and found["settings"]["targets"] == [1e23]
    expected = forecast_all(table, [1e23], tokens_per_param=20, level=0.9)
    assert [(one["task"], one["metric"], one["shots"]) for one in found["forecasts"]] == [
        one.key for one in expected
    ]
    for one, other in zip(found["forecasts"], expected, strict=True):
        assert one["targets"][0]["value"] == pytest.approx(other.value[0])
        assert one["targets"][0]["beyond"] == pytest.approx(other.beyond[0])
        if np.isfinite(other.low[0]):
            assert one["targets"][0]["low"] == pytest.approx(other.low[0])
        assert [method["method"] for method in one["methods"]] == list(other.methods["method"])
        weights = [method["weight"] for method in one["methods"]]
        assert weights == pytest.approx(list(other.methods["weight"])) and sum(weights) == pytest.approx(1.0)


def test_what_is_printed_does_not_change_what_is_forecast(scores) -> None:
    """Oracle: the same command without filters; the chain still has the bits that are not printed."""
    every = strict(call("forecast", scores, "--target", "1e23", "--json").stdout)["forecasts"]
    some = call("forecast", scores, "--target", "1e23", "--metric", "acc", "--task", "p*", "--json")
    (piqa,) = strict(some.stdout)["forecasts"]
    assert "bpb" in piqa["bridge"]
    assert piqa == next(one for one in every if (one["task"], one["metric"]) == ("piqa", "acc"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_forecast_writes_its_rows(scores, tmp_path, suffix) -> None:
    out = tmp_path / f"rows{suffix}"
    done = call("forecast", scores, "--target", "1e23", "--target", "1e24", "--task", "piqa", "-o", str(out))
    rows = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert f"written: {out}" in done.stderr
    assert rows["flops"].tolist() == [1e23, 1e24] * 2 and set(rows["metric"]) == {"acc", "bpb"}
    assert rows["value"].notna().all()


def test_forecast_over_bytes_of_text(table, tmp_path_factory) -> None:
    """Closed form: target and data are 6 N D times the bytes per token of the one and the other."""
    seed = table.frame["model"].str[-3:].astype("Int64")
    named = ScoreTable.from_frame(table.frame.assign(model="pythia-160m@v0", seed=seed))
    path = _written(named, tmp_path_factory, "named")
    args = ("--target", "1e23", "--axis", "bytes", "--bytes-per-token", "4", "--json")
    target = strict(call("forecast", path, *args).stdout)["forecasts"][0]["targets"][0]
    per_token = model_info("pythia-160m@v0").bytes_per_token
    assert target["target"] == 1e23 and target["flops"] == pytest.approx(4e23)
    assert target["beyond"] == pytest.approx(4e23 / (table.frame["flops"].max() * per_token))


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "--target"),
        (("--target", "-1e23"), 2, "positive"),
        (("--target", "much"), 2, "--target"),
        (("--target", "1e23", "--level", "1.5"), 2, "level"),
        (("--target", "1e23", "--task", "nope"), 2, "valid is boolq, piqa"),
        (("--target", "1e23", "--metric", "nope"), 2, "valid is acc, bpb"),
        (("--target", "1e23", "--task", "boolq", "--metric", "bpb"), 1, "nothing"),
        (("--target", "1e23", "--source", "nope"), 2, "valid is synthetic"),
        (("--target", "1e23", "--tokens-per-param", "0"), 2, "tokens_per_param"),
        (("--target", "1e23", "--axis", "pages"), 2, "--axis"),
        (("--target", "1e23", "--axis", "bytes"), 2, "bytes_per_token"),
        (("--target", "1e23", "--axis", "bytes", "--bytes-per-token", "4"), 1, "bytes per token"),
        (("--target", "1e23", "--bytes-per-token", "4"), 2, "--axis bytes"),
        (("--target", "1e23", "--jobs", "0"), 2, "jobs"),
        (("--target", "1e23", "-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_forecast_errors(scores, args, code, said, tmp_path, monkeypatch) -> None:
    _fails("forecast", scores, args, code, said, tmp_path, monkeypatch)


def _fails(command, scores, args, code, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(command, scores, *args, code=code)
    assert said in done.stderr and done.stdout == "" and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_backtest_lists_ours_then_baselines_then_methods(printed) -> None:
    lines = [line for line in printed.splitlines() if line.startswith("proportion  ")]
    methods = [line.removeprefix("proportion").strip().split("  ")[0] for line in lines]
    plain = [name for name in methods if not name.startswith("method: ")]
    assert methods[: len(plain)] == plain and len(plain) < len(methods)
    # A baseline that converges nowhere has no row.
    assert plain == [name for name in (OURS, *BASELINES) if name in plain] and plain[:2] == [
        OURS,
        "last value",
    ]
    assert "up to 1e+21 FLOPs" in printed.splitlines()[0]


def test_backtest_says_that_the_forecast_beats_the_last_value(printed, told) -> None:
    """Planted: tasks on known sigmoids that rise through the cut."""
    (one,) = told["verdicts"]
    assert one["verdict"] == "beats" and 0 < one["gain_low"] <= one["gain"] <= one["gain_high"]
    assert one["tasks"] == len(RISING)
    assert "the forecast beats the last value carried forward" in printed


def test_backtest_says_where_nothing_is_gained(flat) -> None:
    """Planted: scores that never move, which the last value forecasts as well as anything."""
    done = call("backtest", flat, "--cut", CUT)
    assert "the forecast beats" not in done.stdout
    said = (
        "the forecast is not shown to beat the last value",
        "the last value carried forward beats the forecast",
    )
    assert any(text in done.stdout for text in said)


def test_backtest_claims_nothing_from_few_tasks(rising) -> None:
    """Planted: two tasks are fewer than an interval over tasks needs."""
    done = call("backtest", rising, "--cut", CUT, "--task", "rises0", "--task", "rises1")
    assert "not identified" in done.stdout and "the forecast beats the last value carried forward:" not in (
        done.stdout
    )


def test_backtest_json_is_what_the_library_says(rising, told) -> None:
    """Oracle: backtest(...).summary of the same seed, and by_task."""
    found = told
    expected = backtest(ScoreTable.read(rising), cut_flops=1e21)
    summary = expected.summary(seed=3)
    assert [row["method"] for row in found["summary"]] == list(summary["method"])
    for row, other in zip(found["summary"], summary.to_dict("records"), strict=True):
        assert row["targets"] == other["targets"]
        if not other["targets"]:  # a baseline that failed everywhere has a row and no figures
            assert row["mean"] is None and row["gain_low"] is None
            continue
        assert row["mean"] == pytest.approx(other["mean"])
        if other["method"] != OURS:
            assert row["gain_low"] == pytest.approx(other["gain_low"])
    assert found["cut"] == expected.cut and found["settings"]["seed"] == 3
    tasks = {row["task"]: row for row in found["tasks"]}
    assert set(tasks) == set(RISING)
    by_task = expected.by_task().set_index("task")
    assert tasks["rises0"][OURS] == pytest.approx(by_task.loc["rises0", OURS])


def test_backtest_filters_count_fewer_rows_of_the_same_test(rising, told) -> None:
    """Oracle: the errors of these tasks without a filter."""
    every = told["tasks"]
    some = strict(call("backtest", rising, "--cut", CUT, "--task", "rises0", "--json").stdout)["tasks"]
    (one,) = [row for row in every if row["task"] == "rises0"]
    assert len(some) == 1 and some[0] == {name: one[name] for name in some[0]}
    # A method without any number for these tasks has no column.
    assert all(value is None for name, value in one.items() if name not in some[0])


def test_backtest_prints_every_task_on_request(flat, printed) -> None:
    for name in RISING:
        row_of(printed, name, "acc", "0")
    assert "flat3  " not in call("backtest", flat, "--cut", CUT).stdout


def test_backtest_by_size_of_the_models(rising) -> None:
    """Oracle: the sizes of the runs, sqrt(C / 120) each."""
    sizes = np.sqrt(10.0 ** np.linspace(18, 22, 12) / 120.0)
    cut, top = float(sizes[7] * 1.01), float(sizes[9] * 1.01)
    args = ("backtest", rising, "--cut-params", str(cut), "--json")
    assert strict(call(*args).stdout)["summary"][0]["targets"] == 4 * len(RISING)
    less = strict(call(*args, "--target-params", f"{cut}..{top}").stdout)
    assert less["summary"][0]["targets"] == 2 * len(RISING)


def test_backtest_writes_its_rows(rising, tmp_path) -> None:
    out = tmp_path / "rows.parquet"
    call("backtest", rising, "--cut", CUT, "--by", "family", "-o", str(out))
    rows = pd.read_parquet(out)
    assert set(rows["group"]) == {"one"} and set(rows["task"]) == set(RISING)
    ours = rows[rows["method"] == OURS]
    error = 100 * (ours["predicted"] - ours["observed"]).abs()
    assert np.allclose(ours["error"], error)


def test_unknown_shots_are_no_number(rising, tmp_path) -> None:
    frame = ScoreTable.read(rising).frame.assign(shots=pd.NA)
    path, out = tmp_path / "s.parquet", tmp_path / "rows.csv"
    ScoreTable.from_frame(frame).write(path)
    done = call("backtest", str(path), "--cut", CUT, "--tasks", "-o", str(out))
    assert pd.read_csv(out)["shots"].isna().all()
    assert " -1 " not in done.stdout
    assert strict(call("backtest", str(path), "--cut", CUT, "--json").stdout)["tasks"][0]["shots"] is None


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "--cut"),
        (("--cut", CUT, "--cut-params", "1e9"), 2, "one of them"),
        (("--cut", "-3"), 2, "positive"),
        (("--cut", "soon"), 2, "--cut"),
        (("--cut", "1e30"), 1, "0 above"),
        (("--cut", "1e3"), 1, "0 run(s) up to"),
        (("--cut", CUT, "--target-params", "7e9"), 2, "valid is LO..HI in parameters"),
        (("--cut", CUT, "--target-params", "7e9..1e9"), 2, "valid is LO..HI in parameters"),
        (("--cut", CUT, "--target-params", "1e13..1e14"), 1, "0 above"),
        (("--cut", CUT, "--by", "colour"), 2, "--by"),
        (("--cut", CUT, "--task", "nope"), 2, "none there; valid is rises0"),
        (("--cut", CUT, "-o", "x.json"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_backtest_errors(rising, args, code, said, tmp_path, monkeypatch) -> None:
    _fails("backtest", rising, args, code, said, tmp_path, monkeypatch)

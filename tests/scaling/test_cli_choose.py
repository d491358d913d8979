"""`scaling decisions`, `signal`, `effective` and `items`: what they print, what they write, how they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.decisions import decide
from scaling.effective import effective_compute
from scaling.item_subsets import choose_items, items_needed
from scaling.item_windows import early_late, item_windows
from scaling.items import ItemScores
from scaling.scores import ScoreTable
from scaling.signal import recipe_signal
from tests.scaling.test_cli import call, strict
from tests.scaling.test_decisions import world
from tests.scaling.test_item_windows import planted
from tests.scaling.test_latent import family_frame
from tests.scaling.test_latent import table_of as families_of
from tests.scaling.test_signal import table_of as recipes

PAIR = ("--small", "1e19", "--target", "1e21")
FAST = ("--replicates", "30")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Score tables: nine recipes at two scales, seven of them, mixtures with checkpoints, three families."""
    path = tmp_path_factory.mktemp("choose")
    noise = {"sharp": 0.0, "middling": 0.5, "blind": 10.0}
    world(noise, metrics=("acc", "bpb")).write(path / "nine.parquet")
    world(noise, recipes=7).write(path / "seven.parquet")
    recipes(recipes=6, seeds=2).write(path / "mixtures.parquet")
    families_of(family_frame()).write(path / "families.parquet")
    return path


@pytest.fixture(scope="module")
def questions(folder) -> ItemScores:
    """Item scores on disk, with a score table that knows the compute of their runs."""
    items = planted(np.linspace(18.8, 21.2, 40), noise=0.2)
    for name in ("quiz", "exam"):
        np.savez(
            folder / f"lab_items_{name}.npz", model=items.model, step=items.step, loss=items.scores,
            item=np.array([f"q{i}" for i in range(40)]),
        )  # fmt: skip
    runs = pd.DataFrame({"source": "s", "model": items.model, "step": items.step, "flops": items.flops})
    ScoreTable.from_frame(runs.assign(task="loss", metric="ce_loss", score=3.0)).write(
        folder / "runs.parquet"
    )
    return ItemScores.read(folder / "lab_items_quiz.npz", ScoreTable.read(folder / "runs.parquet"))


def line_of(stdout: str, task: str) -> str:
    return next(line for line in stdout.splitlines() if line.split()[:1] == [task])


@pytest.mark.parametrize("command", ["decisions", "signal", "effective", "items"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: scaling {command}" in call(command, "--help").stdout


# Decisions


def test_decisions_prints_pairs_and_shares(folder) -> None:
    """Planted: a task that sees the skill orders all 36 pairs right."""
    done = call("decisions", str(folder / "nine.parquet"), *PAIR, "--metric", "acc")
    assert "36 pairs of 9 recipes, 0 refused" in done.stdout
    assert line_of(done.stdout, "sharp").split()[3] == "1.00"
    assert line_of(done.stdout, "sharp").split()[-1] == "36"
    assert "bpb" not in done.stdout


def test_decisions_json_is_what_the_library_says(folder) -> None:
    """Oracle: decide with the same arguments."""
    path = folder / "nine.parquet"
    args = ("--metric-target", "acc", "--seed", "3", "--json")
    found = strict(call("decisions", str(path), *PAIR, *args).stdout)
    expected = decide(ScoreTable.read(path), small=1e19, target=1e21, metric_target="acc", seed=3).to_frame()
    assert found["pairs"] == 36 and found["settings"]["seed"] == 3
    rows = pd.DataFrame(found["tasks"])
    for name in ("task", "metric", "pairs", "claim"):
        assert rows[name].tolist() == expected[name].tolist()
    for name in ("itself", "itself_low", "itself_high", "rest", "rest_low", "rest_high", "kendall"):
        assert rows[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)


def test_another_metric_may_count_at_the_target(folder, tmp_path) -> None:
    """Planted: large runs are ordered the wrong way round by their bits, and right by their accuracy."""
    frame = ScoreTable.read(folder / "nine.parquet").frame.copy()
    turn = (frame["metric"] == "bpb") & (frame["flops"] == 1e21)
    frame.loc[turn, "score"] = 3.0 - frame.loc[turn, "score"]
    path = tmp_path / "s.parquet"
    ScoreTable.from_frame(frame).write(path)
    args = ("decisions", str(path), *PAIR, "--task", "sharp", "--metric", "bpb", "--json")
    assert strict(call(*args).stdout)["tasks"][0]["itself"] == 0.0
    assert strict(call(*args, "--metric-target", "acc").stdout)["tasks"][0]["itself"] == 1.0


def test_decisions_filter_what_is_printed_and_not_the_others(folder) -> None:
    """Oracle: the rows of the same command without a filter."""
    args = ("decisions", str(folder / "nine.parquet"), *PAIR, "--json")
    every = strict(call(*args).stdout)["tasks"]
    some = strict(call(*args, "--task", "sharp", "--metric", "bpb").stdout)["tasks"]
    assert some == [row for row in every if (row["task"], row["metric"]) == ("sharp", "bpb")]
    assert some[0]["rest"] is not None


def test_few_pairs_have_an_interval_and_no_claim(folder) -> None:
    """Closed form: seven recipes make 21 pairs, fewer than a claim needs."""
    path = str(folder / "seven.parquet")
    done = call("decisions", path, *PAIR)
    assert "no claim: 21 pairs" in done.stdout
    assert "1.00" not in line_of(done.stdout, "sharp").split() and ".." in line_of(done.stdout, "sharp")
    assert not any(row["claim"] for row in strict(call("decisions", path, *PAIR, "--json").stdout)["tasks"])


def test_unlike_sizes_are_compared_on_request(folder, tmp_path) -> None:
    """Planted: one recipe of nine is four times as large at the target; its 8 pairs are refused."""
    frame = ScoreTable.read(folder / "nine.parquet").frame.copy()
    frame.loc[(frame["family"] == "recipe03") & (frame["flops"] == 1e21), "params"] *= 4
    path = tmp_path / "s.parquet"
    ScoreTable.from_frame(frame).write(path)
    args = ("decisions", str(path), *PAIR, "--json")
    found = strict(call(*args).stdout)
    assert found["pairs"] == 28 and sum(found["refused"].values()) == 8
    assert sum(one["count"] for one in found["omissions"]) == 8
    assert strict(call(*args, "--no-match").stdout)["pairs"] == 36
    assert strict(call(*args, "--match", "16").stdout)["pairs"] == 36


def test_decisions_between_intervals_of_compute(folder) -> None:
    path = str(folder / "nine.parquet")
    done = call("decisions", path, "--small", "5e18..2e19", "--target", "5e20..2e21")
    assert "36 pairs" in done.stdout and "5e18..2e19" in done.stdout


def test_decisions_write_their_rows(folder, tmp_path) -> None:
    out = tmp_path / "rows.csv"
    call("decisions", str(folder / "nine.parquet"), *PAIR, "--by", "family", "-o", str(out))
    rows = pd.read_csv(out)
    assert set(rows["task"]) == {"sharp", "middling", "blind"} and (rows["pairs"] == 36).all()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--small", "1e19"), 2, "--target"),
        (("--small", "little", "--target", "1e21"), 2, "valid is a number of FLOPs"),
        (("--small", "1e20..1e19", "--target", "1e21"), 2, "valid is LO..HI"),
        (("--small", "1e25", "--target", "1e26"), 1, "no final checkpoint"),
        (("--small", "1e19", "--target", "1e19"), 1, "no pair of recipes"),
        ((*PAIR, "--by", "colour"), 2, "valid are some of family, variant, model"),
        ((*PAIR, "--by", ""), 2, "valid are some of family, variant, model"),
        ((*PAIR, "--like", "0.5"), 2, "at least 1"),
        ((*PAIR, "--match", "3", "--no-match"), 2, "one of them"),
        ((*PAIR, "--reach", "0.1"), 2, "at least 1"),
        ((*PAIR, "--points", "some"), 2, "--points"),
        ((*PAIR, "--task", "nope"), 2, "valid is blind, middling, sharp"),
        ((*PAIR, "--metric-target", "nope"), 2, "valid is acc, bpb"),
        ((*PAIR, "-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_decisions_errors(folder, args, code, said, tmp_path, monkeypatch) -> None:
    _fails(("decisions", str(folder / "nine.parquet"), *args), code, said, tmp_path, monkeypatch)


def _fails(args, code, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*args, code=code)
    assert said in done.stderr and done.stdout == "" and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# Signal


def test_signal_is_what_the_library_says(folder, tmp_path) -> None:
    """Oracle: recipe_signal with the same arguments."""
    path, out = folder / "mixtures.parquet", tmp_path / "rows.csv"
    done = call(
        "signal", str(path), "--by", "variant", "--last", "6", "--after", "0.25", "--json", "-o", str(out)
    )
    found = strict(done.stdout)
    expected = recipe_signal(ScoreTable.read(path), by=("variant",), last=6, after=0.25).to_frame().iloc[0]
    for name in ("spread", "noise", "snr", "monotonicity", "finetasks_snr", "ordering_consistency"):
        assert found["tasks"][0][name] == pytest.approx(expected[name])
    assert found["settings"]["last"] == 6
    assert pd.read_csv(out)["snr"].tolist() == pytest.approx([expected["snr"]])


def test_signal_prints_the_clearest_task_first_and_what_is_missing(folder, tmp_path) -> None:
    """Planted: the second task has half the spread of the first; runs have no chance that is known."""
    frame = ScoreTable.read(folder / "mixtures.parquet").frame
    middle = frame.groupby("step")["score"].transform("mean")
    dull = frame.assign(
        task="dull", score=middle + 0.1 * (frame["score"] - middle) + 0.01 * (frame["step"] % 3)
    )
    path = tmp_path / "s.parquet"
    ScoreTable.from_frame(pd.concat([frame, dull], ignore_index=True)).write(path)
    done = call("signal", str(path))
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names.index("t") < names.index("dull")
    assert "no known baseline" in done.stderr
    assert strict(call("signal", str(path), "--json").stdout)["tasks"][0]["non_randomness"] is None


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--by", "colour"), 2, "valid are some of family, variant, model"),
        (("--after", "1"), 2, "below 1"),
        (("--like", "0"), 2, "at least 1"),
        (("--match", "2", "--no-match"), 2, "one of them"),
        (("--task", "nope"), 2, "valid is t"),
        (("-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_signal_errors(folder, args, code, said, tmp_path, monkeypatch) -> None:
    _fails(("signal", str(folder / "mixtures.parquet"), *args), code, said, tmp_path, monkeypatch)


# Effective compute


def test_effective_prints_families_by_efficiency(folder) -> None:
    """Planted: the thrifty family needs least compute for an ability, the wasteful one most."""
    done = call("effective", str(folder / "families.parquet"), "--reference", "plain")
    assert done.stdout.startswith("in FLOPs of plain")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names.index("thrifty") < names.index("plain") < names.index("wasteful")
    assert "1 of them of unknown compute" in done.stdout


def test_effective_json_is_what_the_library_says(folder) -> None:
    """Oracle: effective_compute with the same arguments."""
    path = folder / "families.parquet"
    found = strict(call("effective", str(path), "--exclude", "ax_test", "--json").stdout)
    expected = effective_compute(ScoreTable.read(path), exclude=["ax_test"])
    assert found["settings"]["reference"] == expected.reference
    assert found["settings"]["exclude"] == ["ax_test"]
    multipliers = [one["multiplier"] for one in found["families"]]
    assert multipliers == pytest.approx(expected.efficiency()["multiplier"].tolist())
    places = [one["effective_log10_flops"] for one in found["runs"]]
    assert places == pytest.approx(expected.frame["effective_log10_flops"].tolist())
    assert None in [one["log10_flops"] for one in found["runs"]]


def test_what_effective_writes_can_be_classified(folder, tmp_path) -> None:
    """Oracle: the runs' places; a run of unknown compute has one, and the excluded task is there."""
    source, out = folder / "families.parquet", tmp_path / "effective.parquet"
    done = call("effective", str(source), "--exclude", "ax_test", "-o", str(out))
    assert f"written: {out}" in done.stderr
    written = ScoreTable.read(out).frame
    assert "ax_test" in set(written["task"]) and written["flops"].notna().all()
    axis = effective_compute(ScoreTable.read(source), exclude=["ax_test"]).frame
    place = written.merge(axis, on="model")
    assert np.allclose(np.log10(place["flops"]), place["effective_log10_flops"])
    found = strict(call("classify", str(out), "--early-by", "1e21", "--json", *FAST).stdout)
    assert "ax_test" in {row["task"] for row in found["tasks"]}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--reference", "nobody"), 2, "valid are families"),
        (("--exclude", "nope"), 2, "'nope'"),
        (("--task", "ax_test"), 1, "task"),
        (("-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_effective_errors(folder, args, code, said, tmp_path, monkeypatch) -> None:
    _fails(("effective", str(folder / "families.parquet"), *args), code, said, tmp_path, monkeypatch)


# Items


def test_items_is_what_the_library_says(folder, questions) -> None:
    """Oracle: item_windows, early_late and items_needed over all of the data."""
    args = (
        "items",
        str(folder / "lab_items_quiz.npz"),
        "--runs",
        str(folder / "runs.parquet"),
        "--se",
        "0.05",
    )
    (one,) = strict(call(*args, "--json").stdout)["benchmarks"]
    halves = early_late(item_windows(questions))
    needed = items_needed(questions, 0.05, (questions.flops.min(), questions.flops.max()))
    assert (one["task"], one["items"]) == ("quiz", 40)
    assert (one["early"], one["late"], one["neither"]) == tuple(
        map(len, (halves.early, halves.late, halves.neither))
    )
    assert one["parted_at"] == pytest.approx(10**halves.at)
    assert (one["needed"], one["needed_paired"]) == (needed.needed, needed.needed_paired)
    row = line_of(call(*args).stdout, "quiz").split()
    assert row[2:5] == ["40", str(needed.needed), str(needed.needed_paired)]


def test_items_of_several_benchmarks_have_a_row_each(folder, questions, tmp_path) -> None:
    """Oracle: the windows; early items have their centre below, late ones not below where they part."""
    out = tmp_path / "items.parquet"
    files = [str(folder / f"lab_items_{name}.npz") for name in ("quiz", "exam")]
    args = ("items", *files, "--runs", str(folder / "runs.parquet"), "--se", "0.05", "-o", str(out), "--json")
    found = strict(call(*args).stdout)["benchmarks"]
    rows = pd.read_parquet(out)
    assert rows.groupby("task").size().to_dict() == {"quiz": 40, "exam": 40}
    quiz = rows[rows["task"] == "quiz"]
    assert quiz["item"].tolist() == [f"q{i}" for i in range(40)]
    assert np.allclose(quiz["centre"], 10 ** item_windows(questions).centre, equal_nan=True)
    parted = found[0]["parted_at"]
    assert (quiz.loc[quiz["half"] == "early", "centre"] < parted).all()
    assert (quiz.loc[quiz["half"] == "late", "centre"] >= parted * (1 - 1e-9)).all()
    assert set(quiz["half"]) >= {"early", "late"}


def test_items_within_a_stage(folder, questions) -> None:
    """Oracle: items_needed over the same interval."""
    args = (
        "items",
        str(folder / "lab_items_quiz.npz"),
        "--runs",
        str(folder / "runs.parquet"),
        "--se",
        "0.05",
    )
    (one,) = strict(call(*args, "--stage", "1e20..1e21", "--json").stdout)["benchmarks"]
    needed = items_needed(questions, 0.05, (1e20, 1e21))
    assert (one["needed"], one["checkpoints"]) == (needed.needed, needed.checkpoints)


def test_items_are_chosen_for_a_stage(folder, questions, tmp_path) -> None:
    """Oracle: choose_items, in its order."""
    out = tmp_path / "items.csv"
    args = ("items", str(folder / "lab_items_quiz.npz"), "--runs", str(folder / "runs.parquet"))
    more = ("--stage", "1e20..1e21", "--choose", "5", "--json", "-o", str(out))
    (one,) = strict(call(*args, *more).stdout)["benchmarks"]
    best = choose_items(questions, 1e20, 1e21, 5).ids.tolist()
    assert one["chosen"] == best
    rows = pd.read_csv(out).dropna(subset="chosen").sort_values("chosen")
    assert rows["item"].tolist() == best and rows["chosen"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "--runs"),
        (("--runs", "RUNS", "--stage", "soon"), 2, "valid is LO..HI"),
        (("--runs", "RUNS", "--stage", "1e21..1e20"), 2, "LO..HI"),
        (("--runs", "RUNS", "--stage", "1e27..1e28"), 1, "no checkpoint in"),
        (("--runs", "RUNS", "--se", "0"), 2, "se: got 0.0"),
        (("--runs", "RUNS", "--choose", "5"), 2, "--stage"),
        (("--runs", "RUNS", "--stage", "1e20..1e21", "--choose", "41"), 2, "1 to the 40 items"),
        (("--runs", "RUNS", "--threshold", "0.2"), 2, "above 0.5"),
        (("--runs", "nowhere.parquet"), 1, "nowhere.parquet"),
        (("--runs", "RUNS", "-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
    ],
)
def test_items_errors(folder, questions, args, code, said, tmp_path, monkeypatch) -> None:
    args = [str(folder / "runs.parquet") if arg == "RUNS" else arg for arg in args]
    _fails(("items", str(folder / "lab_items_quiz.npz"), *args), code, said, tmp_path, monkeypatch)


def test_items_of_unknown_runs_or_no_file(folder, questions, tmp_path, monkeypatch) -> None:
    other = str(folder / "families.parquet")
    _fails(("items", str(folder / "lab_items_quiz.npz"), "--runs", other), 1, "run00", tmp_path, monkeypatch)
    runs = str(folder / "runs.parquet")
    _fails(("items", "nowhere.npz", "--runs", runs), 1, "no such file", tmp_path, monkeypatch)
    _fails(("items", runs, "--runs", runs), 1, "not a readable npz file", tmp_path, monkeypatch)

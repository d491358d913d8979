"""The command `scaling`: what it prints, what it writes, and how it fails."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import scaling
from scaling.cli import app
from scaling.console import plain
from scaling.progress import progress_bar
from scaling.scores import ScoreTable
from tests.scaling import synthetic

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "sources", "fetch", "read", "classify", "clusters", "plot", "forecast", "backtest", "decisions", "signal",
    "effective", "items",
)  # fmt: skip
FAST = ("--replicates", "30")


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> str:
    tasks = {
        "piqa": synthetic.sigmoid(0.5, 0.9, 20.0, 2.0),
        "arc_easy": synthetic.sigmoid(0.25, 0.9, 22.5, 3.0),
        "boolq": synthetic.constant(0.5),
    }
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    synthetic.table_of(tasks, run_sd=0.004, checkpoint_sd=0.004).write(path)
    return str(path)


def call(*args: str, code: int = 0):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == code, (done.output, done.exception)
    return done


def strict(text: str):
    """Parse JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    assert f"Example: scaling {command}" in call(command, "--help").stdout


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['scaling', '--help']\n"
        "from scaling.cli import main\n"
        "try: main()\n"
        "finally: print({'pandas', 'scipy', 'matplotlib', 'yaml'} & set(sys.modules))"
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stdout + done.stderr
    assert best < 2.0  # 0.2 s alone; a machine that does other things gets some room


def test_classify_prints_settings_and_every_task(scores) -> None:
    done = call("classify", scores, "--stage", "1e19..1e21", "--seed", "3", *FAST)
    assert "early by 1e21 FLOPs, asked at 1e19" in done.stdout and "seed 3" in done.stdout
    assert [name in done.stdout for name in ("piqa", "arc_easy", "boolq")] == [True] * 3
    assert "\x1b" not in done.stdout  # no colours off a terminal
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()[2:]) < 140


def test_classify_json_is_strict_and_complete(scores) -> None:
    done = call("classify", scores, "--early-by", "1e21", "--json", *FAST)
    found = strict(done.stdout)
    assert found["settings"]["early_by"] == 1e21 and found["settings"]["replicates"] == 30
    by_task = {task["task"]: task for task in found["tasks"]}
    assert set(by_task) == {"piqa", "arc_easy", "boolq"}
    piqa, boolq = by_task["piqa"], by_task["boolq"]
    for name in (
        "class",
        "p_early_signal",
        "p_late_signal",
        "p_saturated",
        "p_noisy",
        "opens_low",
        "clears_chance",
    ):
        assert name in piqa
    assert piqa["class"] == "early-signal" and piqa["window"] == "measured" and 1e18 < piqa["opens"] < 1e21
    assert boolq["opens"] is None and boolq["window"] == "none" and boolq["close"] == "none"
    assert "opens_high" in boolq["unbounded"] and boolq["opens_high"] is None


def test_classify_writes_its_rows(scores, tmp_path) -> None:
    out = tmp_path / "deep" / "rows.csv"
    done = call("classify", scores, "--stage", "1e19..1e21", "--task", "p*", "-o", str(out), *FAST)
    assert pd.read_csv(out)["task"].tolist() == ["piqa"]
    assert "another task than asked for" in done.stderr


def test_the_same_seed_gives_the_same_answer(scores) -> None:
    args = ("classify", scores, "--stage", "1e19..1e21", "--json", *FAST)
    assert call(*args).stdout == call(*args).stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("classify", "SCORES"), 2, "--early-by"),
        (("classify", "SCORES", "--stage", "1e21..1e19"), 2, "valid is LO..HI"),
        (("classify", "SCORES", "--stage", "soon"), 2, "valid is LO..HI"),
        (("classify", "SCORES", "--stage", "1e30..1e31"), 1, "outside all data"),
        (("classify", "SCORES", "--early-by", "1e19", "--threshold", "0.3"), 2, "between 0.5 and 1"),
        (("classify", "SCORES", "--early-by", "1e19", "--task", "nope"), 2, "valid is arc_easy, boolq, piqa"),
        (("classify", "SCORES", "--early-by", "1e19", "--points", "some"), 2, "--points"),
        (("classify", "SCORES", "--early-by", "1e19", "-o", "x.txt"), 2, "valid suffixes are .parquet, .csv"),
        (("classify", "nowhere.parquet", "--early-by", "1e19"), 1, "nowhere.parquet"),
        (("clusters", "SCORES", "--task", "piqa"), 1, "two or more"),
        (("clusters", "SCORES", "--count", "9"), 2, "valid is"),
        (("plot", "SCORES", "-o", "x.gif", "--early-by", "1e19"), 2, "valid suffixes are .png, .svg, .pdf"),
        (("fetch", "nothing"), 2, "known are pythia"),
        (("read", "nowhere"), 1, "nowhere"),
        (("foretell", "SCORES"), 2, "foretell"),
    ],
)
def test_errors_are_one_message_and_an_exit_code(scores, args, code, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*(scores if arg == "SCORES" else arg for arg in args), code=code)
    assert said in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_are_refused_and_the_old_file_stays(scores, tmp_path) -> None:
    frame = ScoreTable.read(scores).frame.copy()
    frame.loc[[1, 5], "score"] = [1.7, float("inf")]
    bad, out = tmp_path / "bad.csv", tmp_path / "scores.parquet"
    frame.to_csv(bad, index=False)
    out.write_bytes(b"old")
    done = call("read", str(bad), "-o", str(out), code=1)
    assert "2 bad row(s)" in done.stderr and "1.7" in done.stderr
    assert out.read_bytes() == b"old"
    told = strict(call("read", str(bad), "-o", str(out), "--drop-bad", "--json").stdout)
    assert told["scores"] == len(frame) - 2 == len(ScoreTable.read(out))
    assert sum(one["count"] for one in told["omissions"]) == 2


def test_an_output_that_cannot_be_written_is_said(scores, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = call("read", scores, "-o", str(tmp_path / "file" / "x.csv"), code=1)
    assert done.stderr.startswith("error: ") and "file" in done.stderr


def test_read_summarises_each_source(scores) -> None:
    done = call("read", scores)
    assert "288 scores of 12 models (12 with known compute) on 3 tasks" in done.stdout
    assert "synthetic" in done.stdout


def test_sources_lists_what_fetch_knows() -> None:
    listed = strict(call("sources", "--json").stdout)["sources"]
    assert {"name", "repository", "commit", "licence", "files", "bytes"} <= set(listed[0])
    table = call("sources").stdout
    assert all(one["name"] in table for one in listed)


def test_fetch_from_a_mirror(tmp_path, shared) -> None:
    into = tmp_path / "copy"
    done = call("fetch", "openlm_scaling", "--from", str(shared / "sources"), "--into", str(into))
    assert done.stdout == f"{into}\n" and "written" in done.stderr


def test_clusters_as_json(scores) -> None:
    found = strict(call("clusters", scores, "--json", "--seed", "1").stdout)
    assert {row["task"] for row in found["tasks"]} == {"piqa", "arc_easy", "boolq"}
    assert found["settings"]["seed"] == 1 and found["criterion"]
    assert found["criterion"] in call("clusters", scores, "--seed", "1").stdout


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("w.png", ("--stage", "1e19..1e21", *FAST)),
        ("c.svg", ("--kind", "curve", "--task", "piqa")),
        ("k.pdf", ("--kind", "clusters")),
    ],
)
def test_plot_writes_a_picture(scores, tmp_path, name, args) -> None:
    call("plot", scores, "-o", str(tmp_path / name), *args)
    head = (tmp_path / name).read_bytes()[:5]
    assert head in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """`scaling sources | head -1` ends without a traceback."""
    read, write = os.pipe()
    os.close(read)
    args = [sys.executable, "-c", "from scaling.cli import main; main()", "sources", "--json"]
    done = subprocess.run(args, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert "Traceback" not in done.stderr


def test_no_bar_off_a_terminal(capsys) -> None:
    with progress_bar("work") as step:
        step(1, 2, "name")
        step(2, 2)
    assert capsys.readouterr() == ("", "")


def test_plain_has_only_what_json_has() -> None:
    data = {
        "a": float("nan"),
        "b": [float("inf"), 1.5, True],
        "c": pd.NA,
        "d": pd.Series([1])[0],
        "e": Path("x"),
    }
    assert plain(data) == {"a": None, "b": [None, 1.5, True], "c": None, "d": 1, "e": "x"}


def test_the_package_names_are_lazy_and_stay_what_they_are() -> None:
    code = (
        "import sys, scaling\n"
        "assert not {'pandas', 'scipy', 'numpy'} & set(sys.modules)\n"
        "from scaling.classes import Settings\n"
        "assert callable(scaling.classify) and callable(scaling.fetch)\n"
        "from scaling import classify; assert callable(classify)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(getattr(scaling, name) is not None for name in scaling.__all__)
    assert set(scaling.__all__) <= set(dir(scaling))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scaling.nothing

"""The commands that score, as a user calls them: what is printed where, exit codes, what is left on disk."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import METRICS, summarise
from evalsuite.results import Results
from evalsuite.scorer import Scorer
from evalsuite.skills import skill_names
from scaling.scores import ScoreTable
from tests.evalsuite.console import caller
from tests.evalsuite.scored import choice, free, model_folder, suite_file, task_folder

ITEMS = {
    "colours": [choice(i) for i in range(12)],
    "kept": [choice(i) for i in range(6)],
    "sums": [free(i) for i in range(10)],
}
SCORE = ("--model", "m0", "--tasks", "tasks", "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Two models, a folder of tasks, a suite, and what both models said of it (a, b)."""
    folder = tmp_path_factory.mktemp("home")
    for seed in (0, 1):
        model_folder(folder / f"m{seed}", seed)
    task_folder(folder / "tasks", ITEMS)
    scored = ({"task": "colours"}, {"task": "sums", "metric": "bpb"}, {"task": "skill_copy", "items": 20})
    suite_file(folder / "s.yaml", *scored, held_out=[{"task": "kept"}])
    suite_file(folder / "other.yaml", *scored[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("STAGEWISE_CONFIG", str(folder / "config"))
        for out, model in (("a", "m0"), ("b", "m1")):
            args = ["run", "s.yaml", "--model", model, "--tasks", "tasks", "--device", "cpu", "-o", out]
            done = CliRunner().invoke(app, args, catch_exceptions=False)
            assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def call(home, tmp_path, monkeypatch, capsys):
    """`evalsuite ARGS` in the folder of models and tasks, with settings of its own."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("STAGEWISE_CONFIG", str(tmp_path / "config"))
    command = caller(monkeypatch, capsys)

    def checked(*args: object) -> tuple[int, str, str]:
        code, out, err = command(*map(str, args))
        assert "Traceback" not in err and "Traceback" not in out
        return code, out, err

    return checked


def row(out: str, name: str) -> list[str]:
    """The cells of a task's line."""
    return next(line for line in out.splitlines() if line.startswith(name + " ")).split()


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tasks", "run", "score", "compare", "export"])
def test_help_has_an_example(call, name):
    code, out, err = call(name, "--help")
    assert (code, err) == (0, "") and f"evalsuite {name}" in out and "Example" in out


def test_help_and_wrong_calls_are_light():
    """No library of models, statistics or tables is loaded to say how a command is used."""
    code = (
        "import sys\n"
        "from evalsuite.cli import main\n"
        "for name in ('tasks', 'run', 'score', 'compare', 'export'):\n"
        "    for rest in (['--help'], ['--no-such-option']):\n"
        "        sys.argv = ['evalsuite', name, *rest]\n"
        "        try: main()\n"
        "        except SystemExit as leave: assert leave.code == (2 if rest[0] != '--help' else 0), name\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'pandas', 'scipy', 'pyarrow', 'numpy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]


# --- tasks ----------------------------------------------------------------------------------------


def test_tasks_of_a_fresh_clone(call):
    code, out, err = call("tasks")
    assert (code, err) == (0, "") and len(out.splitlines()) == 2 + len(skill_names())
    assert row(out, "skill_copy")[1:5] == ["symbolic", "choices", "400", "0.25"]
    code, out, _ = call("tasks", "--match", "skill_co*", "--json")
    rows = json.loads(out)["tasks"]
    assert [one["task"] for one in rows] == [name for name in skill_names() if name.startswith("skill_co")]
    assert next(one for one in rows if one["task"] == "skill_copy") == {
        "task": "skill_copy", "capability": "symbolic", "answers": "choices", "items": 400, "chance": 0.25,
        "shots": [0, 4], "from": "generated, seed 0", "problem": "",
    }  # fmt: skip


def test_no_task_of_that_name(call):
    code, out, err = call("tasks", "--match", "skill_copi")
    assert (code, out) == (2, "") and "near it are skill_copy" in err


def test_registering_a_folder(call, home, tmp_path):
    code, out, err = call("tasks", "--add", "tasks")
    assert (code, out, err) == (0, "", "tasks: registered, 3 tasks, 28 items\n")
    assert row(call("tasks", "--match", "sums")[1], "sums")[-1] == "sums.jsonl"
    # Found without --tasks from here on, also from another folder.
    code, out, err = call("run", "--task", "sums", "--model", "m0", "--device", "cpu", "-o", tmp_path / "r")
    assert code == 0 and row(out, "sums")
    clash = task_folder(tmp_path / "clash", {"sums": [free(0)]})
    code, out, err = call("tasks", "--add", clash)
    assert (code, out) == (2, "") and "task sums (1 in all) is in" in err and "--remove" in err
    assert call("tasks", "--remove", "tasks") == (0, "", "tasks: no longer registered\n")
    assert call("tasks", "--match", "sums")[0] == 2
    assert call("tasks", "--remove", "tasks")[0] == 2
    code, _, err = call("tasks", "--add", "tasks", "--remove", "tasks")
    assert code == 2 and "one at a time" in err


def test_a_broken_folder_is_told_at_once_and_not_registered(call, tmp_path):
    bad = task_folder(tmp_path / "bad", {"x": [choice(0, gold=7)], "y": [free(0, answer="")]})
    code, out, err = call("tasks", "--add", bad)
    assert (code, out) == (1, "") and "2 problem(s)" in err and "x.jsonl:1" in err and "y.jsonl:1" in err
    assert not (tmp_path / "config").exists()
    # Listed beside it, the broken tasks are named and the others shown.
    task_folder(bad, {"z": [free(0)]})
    code, out, _ = call("tasks", "--tasks", bad, "--match", "?")
    assert code == 0 and "field gold: got 7" in out and row(out, "z")[2:4] == ["1", "0"]


def test_a_registered_folder_that_vanished(call, tmp_path):
    folder = task_folder(tmp_path / "gone", {"x": [free(0)]})
    assert call("tasks", "--add", folder)[0] == 0
    (folder / "x.jsonl").unlink()
    folder.rmdir()
    for args in (("tasks",), ("run", "--task", "skill_copy", "--model", "m0", "-o", tmp_path / "r")):
        code, out, err = call(*args)
        assert (code, out) == (1, "") and f"evalsuite tasks --remove {folder}" in err
    assert call("tasks", "--remove", folder)[0] == 0 and call("tasks", "--match", "skill_copy")[0] == 0


def test_unsafe_tasks_say_so_in_the_list(call, tmp_path):
    folder = task_folder(tmp_path / "t", {"x": [free(0)]}, [{"task": "x", "unsafe": "runs code"}])
    assert row(call("tasks", "--tasks", folder, "--match", "x")[1], "x")[-2:] == ["runs", "code"]


# --- run ------------------------------------------------------------------------------------------


def test_a_suite_from_the_model_to_the_headline(call, home, tmp_path):
    """Oracle: the summaries of the items that were written."""
    results = Results.open("a")
    assert [one.task for one in results.manifest.tasks] == ["colours", "sums", "skill_copy"]
    table = ScoreTable.read("a/scores.parquet").frame
    for one in results.manifest.tasks:
        said = results.likelihoods(one)
        mine = table[(table["task"] == one.task) & (table["metric"] == one.metric)].iloc[0]
        assert mine["score"] == summarise(said)[one.metric].score and mine["n_items"] == one.answered
        assert (mine["model"], mine["source"]) == ("m0", "stagewise")
    code, out, err = call("score", "a", "s.yaml")
    assert (code, err) == (0, "") and row(out, "score") and row(out, "bits") and row(out, "colours")
    found = json.loads(call("score", "a", "s.yaml", "--json")[1])
    part = found["parts"][0]
    assert part["name"] == "score" and part["low"] < part["value"] < part["high"]
    assert {one["task"] for one in found["tasks"]} == {"colours", "sums", "skill_copy"}
    assert f"{part['value']:.4g}" in row(out, "score")


def test_the_score_table_goes_back_into_scaling(home, tmp_path):
    from scaling.cli import app as scaling

    done = CliRunner().invoke(
        scaling, ["read", str(home / "a" / "scores.parquet"), "-o", str(tmp_path / "s.parquet")]
    )
    assert done.exit_code == 0, done.stderr
    assert len(ScoreTable.read(tmp_path / "s.parquet").frame) == len(Results.open(home / "a").to_frame())


def test_the_first_time_and_the_second(call, tmp_path, monkeypatch):
    args = ("run", "--task", "s?ms", "--task", "colour[s]", *SCORE, "-o", tmp_path / "r")
    code, out, err = call(*args)
    assert code == 0 and out.splitlines()[0].split()[:4] == ["task", "shots", "items", "metric"]
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["sums", "colours"]
    assert "checked against the plain run" in err.splitlines()[0]
    assert err.splitlines()[-1].endswith("scored, 0 missing")
    monkeypatch.setattr(Scorer, "score", None)  # a second evaluation would fail
    again, table, err = call(*args)
    assert (again, table) == (0, out) and len(err.splitlines()) == 1


def test_json_is_one_document(call, tmp_path):
    code, out, _ = call(
        "run", "--task", "sums", *SCORE, "-o", tmp_path / "r", "--json", "--step", 7, "--tokens", "1e9"
    )
    found = json.loads(out)
    assert code == 0 and found["manifest"]["identity"]["step"] == 7
    rows = {one["metric"]: one for one in found["scores"]}
    assert set(rows) <= set(METRICS) and rows["bpb"]["tokens"] == 1e9
    assert rows["bpb"]["flops"] == 6e9 * found["manifest"]["identity"]["params"]


def test_items_in_files(call, tmp_path):
    import pandas as pd

    call("run", "--task", "colours", "--items", 5, *SCORE, "-o", tmp_path / "r")
    frame = pd.read_parquet(tmp_path / "r" / "items" / "colours@.parquet")
    assert len(frame) == 5 and set(frame["item"]) <= {one["id"] for one in ITEMS["colours"]}
    assert [len(one) for one in frame["ll"]] == [4] * 5
    said = Likelihoods.from_frame(frame, "colours", 0)
    assert (said.bytes[0] == [3, 4, 5, 6]).all()  # red, blue, green, yellow


def test_held_out_tasks_only_when_asked_for(call, home, tmp_path):
    assert "kept" not in {one.task for one in Results.open("a").manifest.tasks}
    code, out, _ = call("run", "s.yaml", *SCORE, "-o", tmp_path / "r", "--held-out")
    assert code == 0 and row(out, "kept")
    roles = {one.task: one.role for one in Results.open(tmp_path / "r").manifest.tasks}
    assert roles == {"colours": "scored", "sums": "scored", "skill_copy": "scored", "kept": "held out"}
    found = json.loads(call("score", tmp_path / "r", "s.yaml", "--json")[1])
    assert "kept" not in {one["task"] for one in found["tasks"]}


def test_right_answers_alone(call, tmp_path):
    assert call("run", "s.yaml", *SCORE, "-o", tmp_path / "r", "--gold-only")[0] == 0
    assert json.loads(call("score", tmp_path / "r", "s.yaml", "--json")[1])["parts"]
    part = {
        one.task: Results.open(tmp_path / "r").likelihoods(one)
        for one in Results.open(tmp_path / "r").manifest.tasks
    }
    assert part["colours"].answered.all()  # wanted by accuracy


def test_a_partial_suite(call, home, tmp_path):
    suite_file(tmp_path / "s.yaml", {"task": "colours", "items": 100}, {"task": "sums"}, {"task": "nowhere"})
    code, out, err = call("run", tmp_path / "s.yaml", *SCORE, "-o", tmp_path / "r")
    assert code == 1 and row(out, "sums") and "colours" not in out
    assert "1 task(s) scored, 2 missing" in err
    assert "task colours: 100 items asked for, 12 at hand" in err and "task 'nowhere': not" in err
    code, out, err = call("score", tmp_path / "r", tmp_path / "s.yaml")
    assert (code, out) == (1, "") and "2 task(s) of the suite missing: no headline" in err
    assert "100 items asked for, 12 at hand" in err
    # What is at hand can be scored, and is no headline either.
    suite_file(tmp_path / "t.yaml", {"task": "colours", "items": 100}, {"task": "sums", "metric": "bpb"})
    code, out, err = call("run", tmp_path / "t.yaml", *SCORE, "-o", tmp_path / "q", "--at-hand")
    assert code == 0 and "12" in row(out, "colours")
    code, out, err = call("score", tmp_path / "q", tmp_path / "t.yaml")
    assert (code, out) == (1, "") and "12 of 100 items" in err


def test_an_unfinished_run_has_no_headline(call, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def dying(self, asked, **options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", dying)
        with pytest.raises(Killed):
            call("run", "s.yaml", *SCORE, "-o", tmp_path / "r")
    code, out, err = call("score", tmp_path / "r", "s.yaml")
    assert (code, out) == (1, "") and "no headline" in err and "no results" in err
    assert call("run", "s.yaml", *SCORE, "-o", tmp_path / "r")[0] == 0
    assert call("score", tmp_path / "r", "s.yaml")[0] == 0
    assert (tmp_path / "r" / "scores.parquet").read_bytes() == Path("a/scores.parquet").read_bytes()


OTHERS = {
    "suite": (("other.yaml", *SCORE), "suite.digest was"),
    "tasks by name": (("--task", "sums", *SCORE), "suite was"),
    "model": (("s.yaml", "--model", "m1", *SCORE[2:]), "model.digest was"),
    "length": (("s.yaml", *SCORE, "--max-length", "99"), "model.max_length was 512, is 99"),
    "type": (("s.yaml", *SCORE, "--dtype", "bfloat16"), "model.d"),
    "name": (("s.yaml", *SCORE, "--name", "x"), "identity.model was 'm0', is 'x'"),
    "seed": (("s.yaml", *SCORE, "--seed", "1"), "settings.seed was 0, is 1"),
}


@pytest.mark.parametrize(("args", "told"), OTHERS.values(), ids=OTHERS)
def test_a_folder_of_other_results(call, home, args, told):
    before = (home / "a" / "manifest.json").read_bytes()
    code, out, err = call("run", *args, "-o", "a")
    line = err.splitlines()[-1]  # a type may come with a warning first
    assert (code, out) == (1, "") and line.startswith("a: holds results of something else: ") and told in line
    assert (home / "a" / "manifest.json").read_bytes() == before


def test_a_folder_of_other_files(call, home):
    for name, code in (("m0", 1), ("tasks", 1), ("s.yaml", 1)):
        before = sorted(home.rglob("*"))
        found, out, err = call("run", "--task", "sums", *SCORE, "-o", name)
        assert (found, out) == (code, "") and err.startswith(name) and len(err.splitlines()) == 1
        assert sorted(home.rglob("*")) == before


def test_a_suite_cannot_name_anything_but_tasks(call, home, tmp_path):
    odd = ("../../etc/passwd", "{{7*7}}", "os.system", "skill_*")
    suite_file(tmp_path / "s.yaml", *({"task": name} for name in odd), {"task": "sums"})
    before = sorted(home.rglob("*"))
    code, out, err = call("run", tmp_path / "s.yaml", *SCORE, "-o", tmp_path / "in" / "r")
    assert code == 1 and row(out, "sums") and "49" not in err
    for name in odd:
        assert f"  task {name!r}: " in err
    assert sorted(home.rglob("*")) == before
    made = {str(path.relative_to(tmp_path / "in")) for path in (tmp_path / "in").rglob("*.*")}
    assert made == {"r/manifest.json", "r/scores.parquet", "r/items/sums@0.parquet"}


WRONG = {
    "nothing": ((), "give a suite file or --task"),
    "both": (("s.yaml", "--task", "sums"), "give a suite file or --task"),
    "items of a suite": (("s.yaml", "--items", "5"), "go with --task"),
    "metric": (("--task", "sums", "--metric", "acuracy"), "--metric 'acuracy': valid are acc,"),
    "no metric": (("--task", "sums", "--metric", ""), "--metric '': valid are acc,"),
    "tokens": (("--task", "sums", "--tokens", "-5"), "--tokens -5: valid is a positive number"),
    "flops": (("--task", "sums", "--flops", "nan"), "--flops nan: valid is a positive number"),
    "task": (("--task", "sum"), "task 'sum': not among"),
    "device": (("--task", "sums", "--device", "tpu"), "device 'tpu'"),
    "type": (("--task", "sums", "--dtype", "int4"), "--dtype"),
}


@pytest.mark.parametrize(("args", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_call(call, tmp_path, args, told):
    code, out, err = call("run", *SCORE, "-o", tmp_path / "r", *args)
    assert (code, out) == (2, "") and told in err and not (tmp_path / "r").exists()


FAILED = {
    "suite": (("nosuch.yaml", *SCORE), "nosuch.yaml: no such file"),
    "no suite": (("tasks/sums.jsonl", *SCORE), "tasks/sums.jsonl"),
    "model": (("--task", "sums", "--model", "nowhere", *SCORE[2:]), "nowhere: no such folder"),
    "no model": (("--task", "sums", "--model", "tasks", *SCORE[2:]), "tasks: holds no config.json"),
    "tokenizer": (
        ("--task", "sums", *SCORE, "--tokenizer", "tasks"),
        "tasks: its tokenizer cannot be loaded",
    ),
    "tasks": (("--task", "sums", *SCORE, "--tasks", "nowhere"), "nowhere: no such folder"),
}


@pytest.mark.parametrize(("args", "told"), FAILED.values(), ids=FAILED)
def test_what_cannot_be_read(call, tmp_path, args, told):
    code, out, err = call("run", "-o", tmp_path / "r", *args)
    assert (code, out) == (1, "") and told in err and not (tmp_path / "r").exists()


def test_an_edited_suite_is_run_with_a_warning(call, home, tmp_path):
    text = (home / "s.yaml").read_text()
    assert "items: 20\n" in text
    (tmp_path / "s.yaml").write_text(text.replace("items: 20\n", "items: 19\n"))
    code, _, err = call("run", tmp_path / "s.yaml", *SCORE, "-o", tmp_path / "r")
    assert code == 0 and "warning" in err.splitlines()[0] and "edited since" in err
    code, _, err = call("score", tmp_path / "r", "s.yaml")
    assert code == 1 and "holds results of another suite" in err


def test_without_torch_the_extra_is_named(call, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("torch", "transformers") else found(name, *rest),
    )
    code, out, err = call("run", "--task", "sums", *SCORE, "-o", tmp_path / "r")
    assert (code, out) == (1, "") and not (tmp_path / "r").exists()
    assert (
        err
        == "scoring a model needs torch and transformers, not installed here: pip install 'stagewise[eval]'\n"
    )


def test_what_needs_no_torch_loads_none(home):
    """Scores that are there are read, compared and summed without the extra."""
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name in ('torch', 'transformers', 'lm_eval'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from evalsuite.cli import main\n"
        "for args in (['tasks'], ['score', 'a', 's.yaml'], ['compare', 'a', 'b', '--suite', 's.yaml']):\n"
        "    sys.argv = ['evalsuite', *args]\n"
        "    try: main()\n"
        "    except SystemExit as leave: assert not leave.code, args\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-800:]


# --- score and compare ----------------------------------------------------------------------------


def test_score_refuses_what_is_not_of_the_suite(call, tmp_path):
    code, out, err = call("score", "a", "other.yaml")
    assert (
        (code, out) == (1, "")
        and "holds results of another suite" in err
        and "evalsuite run other.yaml" in err
    )
    assert call("run", "--task", "sums", *SCORE, "-o", tmp_path / "r")[0] == 0
    code, out, err = call("score", tmp_path / "r", "s.yaml")
    assert (code, out) == (1, "") and "holds results of tasks by name" in err
    for folder, suite, told in (
        ("tasks", "s.yaml", "holds no manifest"),
        ("a", "nosuch.yaml", "no such file"),
    ):
        code, out, err = call("score", folder, suite)
        assert (code, out) == (1, "") and told in err


def test_compare(call):
    code, out, err = call("compare", "a", "b")
    assert (code, err) == (0, "") and len(out.splitlines()) == 2 + 3
    assert row(out, "sums")[2] == "bpb" and row(out, "colours")[2] == "acc"
    found = json.loads(call("compare", "a", "b", "--metric", "bpb", "--suite", "s.yaml", "--json")[1])
    one = next(one for one in found["tasks"] if one["task"] == "colours")
    a, b = (Results.open(folder).table().frame for folder in ("a", "b"))
    means = [f[(f["task"] == "colours") & (f["metric"] == "bpb")]["score"].item() for f in (a, b)]
    assert (one["a"], one["b"]) == pytest.approx(means) and one["difference"] == pytest.approx(
        means[1] - means[0]
    )
    assert one["verdict"] in ("better", "worse", "no difference shown") and one["p_holm"] >= one["p"]
    assert found["headline"][0]["name"] == "score"


def test_a_model_is_no_better_than_itself(call):
    found = json.loads(call("compare", "a", "a", "--suite", "s.yaml", "--json")[1])
    assert {one["verdict"] for one in found["tasks"]} == {"no difference shown"}
    assert all(one["value"] == 0 for one in found["headline"])


def test_compare_tells_what_one_alone_has(call, tmp_path):
    assert call("run", "--task", "sums", "--task", "kept", "--shots", 0, *SCORE, "-o", tmp_path / "r")[0] == 0
    code, out, err = call("compare", tmp_path / "r", "b")
    assert code == 0 and len(out.splitlines()) == 3 and row(out, "sums")
    assert "b: holds no kept at 0 shots" in err and f"{tmp_path / 'r'}: holds no colours at 0 shots" in err
    code, out, err = call("compare", tmp_path / "r", "b", "--suite", "s.yaml")
    assert code == 1 and row(out, "sums") and "tasks by name" in err


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("a", "nowhere"), 1, "nowhere: holds no manifest.json"),
        (("a", "b", "--metric", "acuracy"), 2, "'acuracy'"),
        (("a",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_compared(call, args, code, told):
    found, out, err = call("compare", *args)
    assert (found, out) == (code, "") and told in err


def test_tasks_are_compared_where_the_suite_is_another(call):
    code, out, err = call("compare", "a", "b", "--suite", "other.yaml")
    assert code == 1 and "verdict" in out and "holds results of another suite" in err


def test_a_file_has_its_own_name_too(call, tmp_path):
    """`social_iqa.jsonl` is called siqa here, by the facts table."""
    folder = task_folder(tmp_path / "more", {"social_iqa": [choice(i) for i in range(4)]})
    out = tmp_path / "r"
    code, shown, _ = call("run", "--task", "social_iqa", *SCORE, "--tasks", folder, "-o", out)
    assert code == 0 and row(shown, "siqa")


def test_sigterm_says_what_is_kept(call, tmp_path, monkeypatch):
    import signal

    def told_to_stop(self, asked, **options):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Scorer, "score", told_to_stop)
    before = signal.getsignal(signal.SIGTERM)
    code, _, err = call("run", "--task", "sums", *SCORE, "-o", tmp_path / "r")
    assert code == 130 and "r: stopped; tasks that are scored are kept" in err
    assert signal.getsignal(signal.SIGTERM) == before


def test_results_that_broke_are_made_again(call, tmp_path):
    args = ("run", "--task", "sums", "--task", "colours", *SCORE, "-o", tmp_path / "r")
    assert call(*args)[0] == 0
    whole = (tmp_path / "r" / "scores.parquet").read_bytes()
    next((tmp_path / "r" / "items").glob("sums*")).write_bytes(b"cut off")
    assert call(*args)[0] == 0
    assert (tmp_path / "r" / "scores.parquet").read_bytes() == whole


def test_a_run_without_results_may_be_another(call, tmp_path):
    """Settings that gave nothing do not bind the folder."""
    out = tmp_path / "r"
    assert call("run", "--task", "colours", "--items", "99", *SCORE, "-o", out)[0] == 1
    assert call("run", "--task", "colours", "--gold-only", *SCORE, "-o", out)[0] == 0

"""A run over tasks: what is scored, what is missing and why, and that a killed run is taken up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from evalsuite.cli import main
from evalsuite.loading import load_model
from evalsuite.registry import Registry
from evalsuite.results import Identity, Results, Wanted
from evalsuite.run import run, wanted_of
from evalsuite.scorer import Scorer
from evalsuite.suite import Suite
from evalsuite.tasks import TaskFolder
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from tests.evalsuite.scored import choice, free, model_folder, suite_file, task_folder
from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer
from tests.train.runs import Child

ME = Identity(model="tiny")
LONG = "the bird and the lake and the ball " * 200
ITEMS = {
    "colours": [choice(i) for i in range(12)],
    "mixed": [choice(i) if i % 2 else free(i) for i in range(8)],
    "sums": [free(i) for i in range(10)],
    "tail": [choice(i) for i in range(6)],
}


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STAGEWISE_CONFIG", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return task_folder(tmp_path_factory.mktemp("home") / "tasks", ITEMS)


@pytest.fixture(scope="module")
def registry(home) -> Registry:
    return Registry((TaskFolder.open(home),))


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(tiny_llama(), tiny_tokenizer())


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the tasks that are scored from now on."""
    names: list[str] = []
    score = Scorer.score

    def counting(self, asked, **options):
        names.append(asked.blank.task)
        return score(self, asked, **options)

    monkeypatch.setattr(Scorer, "score", counting)
    return names


def want(*names: str, metric: str = "acc", shots: int | None = 0, items: int | None = None):
    return tuple(Wanted(task=name, metric=metric, shots=shots, items=items) for name in names)


ALL = want(*ITEMS)


def why(results: Results) -> dict[str, str]:
    return {one.task: one.why for one in results.manifest.missing}


def test_files_and_manifest(registry, scorer, tmp_path):
    """Oracle: the scorer alone, task by task."""
    results = run(ALL, registry, scorer, tmp_path, ME)
    assert [one.task for one in results.manifest.tasks] == list(ITEMS) and not results.manifest.missing
    for one in results.manifest.tasks:
        alone = scorer.score(registry.task(one.task))
        np.testing.assert_array_equal(results.likelihoods(one).ll, alone.ll)
        assert (one.answered, one.examples, one.truncated) == (len(ITEMS[one.task]), 0, 0)
        assert one.digest == registry.task(one.task).digest and one.seconds >= 0
    head = results.manifest
    assert head.model.max_length == 512 and head.model.dtype == "float32" and head.suite is None
    assert head.identity.params == sum(p.numel() for p in scorer.model.parameters())
    assert {"torch", "python", "stagewise", "transformers"} <= set(head.versions)
    assert head.settings == {"gold_only": False, "at_hand": False, "seed": 0}
    assert Results.open(tmp_path).manifest == results.manifest


def test_above_the_surface_is_asked_only_of_choices(registry, scorer, tmp_path):
    found = {one.task: one for one in run(ALL, registry, scorer, tmp_path, ME).manifest.tasks}
    assert found["colours"].surface == pytest.approx(0.25) and found["colours"].beaten in (True, False)
    for name in ("mixed", "sums"):
        assert found[name].surface is None and found[name].beaten is None
    assert [found[name].chance for name in ITEMS] == [0.25, 0.125, 0.0, 0.25]


@pytest.mark.parametrize("metric", ["acc_norm", "acc_bytes", "acc_centred", "p_correct", "margin", "bpb"])
def test_any_metric_of_scored_items_may_be_wanted(registry, scorer, tmp_path, metric):
    results = run(want("colours", metric=metric), registry, scorer, tmp_path, ME)
    assert why(results) == {} and results.manifest.tasks[0].surface == pytest.approx(0.25)


def test_only_what_is_not_done_is_done(registry, scorer, tmp_path, asked):
    first = run(ALL, registry, scorer, tmp_path, ME)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert asked == list(ITEMS)
    again = run(ALL, registry, scorer, tmp_path, ME)
    assert asked == list(ITEMS) and again.manifest == first.manifest
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files
    # More items of one task are another question.
    run(want("colours", items=5), registry, scorer, tmp_path, ME)
    assert asked[4:] == ["colours"]
    assert {one.task: one.answered for one in Results.open(tmp_path).manifest.tasks}["colours"] == 5


def test_a_metric_changed_later(registry, scorer, tmp_path):
    for metric in ("bpb", "acc"):
        results = run(want("colours", metric=metric), registry, scorer, tmp_path, ME)
    assert [one.metric for one in results.manifest.tasks] == ["acc"]


def test_items_that_changed_are_scored_again(scorer, tmp_path, asked):
    folder = task_folder(tmp_path / "tasks", {"colours": ITEMS["colours"], "sums": ITEMS["sums"]})
    for _ in range(2):
        run(want("colours", "sums"), Registry((TaskFolder.open(folder),)), scorer, tmp_path / "r", ME)
        task_folder(folder, {"colours": [*ITEMS["colours"], choice(99)]})
    assert asked == ["colours", "sums", "colours"]
    # And those that broke are missing, not old.
    task_folder(folder, {"colours": [choice(0, gold=9)]})
    found = run(want("colours", "sums"), Registry((TaskFolder.open(folder),)), scorer, tmp_path / "r", ME)
    assert [one.task for one in found.manifest.tasks] == ["sums"] and list(why(found)) == ["colours"]
    assert set(found.to_frame()["task"]) == {"sums"}


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.mark.parametrize(
    "where", ["first task", "third task", "writing items", "writing the manifest", "the end"]
)
def test_a_run_killed_anywhere_is_taken_up(registry, scorer, tmp_path, monkeypatch, where):
    """Oracle: the same run, uninterrupted; the bytes of every file but the manifest's seconds."""
    whole = run(ALL, registry, scorer, tmp_path / "whole", ME)
    calls = 0

    def dying(original, at: int):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return original(*args, **options)

        return call

    place, name, at = {
        "first task": (Scorer, "score", 1), "third task": (Scorer, "score", 3),
        "writing items": (type(ME), "model_copy", 0), "writing the manifest": (Results, "_with", 2),
        "the end": (ScoreTable, "write", 1),
    }[where]  # fmt: skip
    if where == "writing items":
        import pandas as pd

        place, name, at = pd.DataFrame, "to_parquet", 1
    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying(getattr(place, name), at))
        with pytest.raises(Killed):
            run(ALL, registry, scorer, tmp_path / "cut", ME)
    assert calls == at
    done = {one.task for one in Results.open(tmp_path / "cut").manifest.tasks}
    # The first task is named at once, the second when it is due.
    assert len(done) in {"third task": (1, 2), "the end": (4,)}.get(where, (0,))
    results = run(ALL, registry, scorer, tmp_path / "cut", ME)
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.parquet")]
    assert len(files) == 5
    for path in files:
        assert (tmp_path / "cut" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes(), path
    blind = {"seconds": 0.0}
    assert [one.model_copy(update=blind) for one in results.manifest.tasks] == [
        one.model_copy(update=blind) for one in whole.manifest.tasks
    ]
    assert not list((tmp_path / "cut").glob(".*"))


def dying(pipe: Any, *args: str) -> None:
    """`evalsuite ARGS`, killed when the second task is due; a job."""
    score = Scorer.score

    def killed(self: Scorer, asked: Any, **options: Any) -> Any:
        if asked.blank.task == "sums":
            os.kill(os.getpid(), signal.SIGKILL)
        return score(self, asked, **options)

    with (
        patch.object(Scorer, "score", killed), patch.object(sys, "argv", ["evalsuite", *args]),
        redirect_stdout(StringIO()), redirect_stderr(StringIO()),
    ):  # fmt: skip
        main()


def test_a_killed_process(home, tmp_path):
    """SIGKILL in the second task, then the same command again."""
    model = model_folder(tmp_path / "model")
    args = ["run", "--task", "colours", "--task", "sums", "--model", str(model), "--tasks", str(home)]
    args += ["--device", "cpu", "-o", str(tmp_path / "r")]
    end = Child(dying, *args, STAGEWISE_CONFIG=os.environ["STAGEWISE_CONFIG"]).end()
    assert end.code == -signal.SIGKILL, end
    before = Results.open(tmp_path / "r").manifest.tasks
    assert [one.task for one in before] == ["colours"]
    loaded = load_model(str(model), device="cpu")
    wanted = want("colours", "sums", metric="bpb", shots=None)
    registry, identity = Registry((TaskFolder.open(home),)), Identity(model="model")
    results = run(wanted, registry, Scorer(loaded.model, loaded.tokenizer), tmp_path / "r", identity)
    after = results.manifest.tasks
    assert [one.task for one in after] == ["colours", "sums"] and after[0] == before[0]


def test_two_processes_score_as_one(home, tmp_path):
    """Oracle: one process; equal bits, file by file."""
    model = model_folder(tmp_path / "model")
    names = ("sums", "skill_copy", "colours", "mixed")
    args = ["run", "--items", "6", *(part for name in names for part in ("--task", name))]
    args += ["--model", str(model), "--tasks", str(home), "--device", "cpu", "--json"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    call = subprocess.run(
        [*start, "-m", "evalsuite.cli", *args, "-o", str(tmp_path / "two")],
        env=env, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert call.returncode == 0, call.stderr
    rows = json.loads(call.stdout)["scores"]  # one document: the first rank alone speaks
    loaded = load_model(str(model), device="cpu")
    wanted = want(*names, metric="bpb", shots=None, items=6)
    registry, identity = Registry((TaskFolder.open(home),)), Identity(model="model")
    results = run(wanted, registry, Scorer(loaded.model, loaded.tokenizer), tmp_path / "one", identity)
    assert [row["score"] for row in rows] == pytest.approx(results.to_frame()["score"].tolist(), rel=1e-14)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet"))
    assert len(files) == 1 + len(names)
    for path in files:
        assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "one" / path).read_bytes(), path


# --- suites ---------------------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path) -> Suite:
    return Suite.read(
        suite_file(
            tmp_path / "s.yaml", {"task": "colours", "items": 8}, {"task": "sums", "metric": "bpb"},
            {"task": "mixed", "metric": "bpb", "item_ids": ("sum/4", "colour/3")},
            held_out=[{"task": "tail"}],
        )
    )  # fmt: skip


def test_what_a_suite_wants(suite):
    wanted = wanted_of(suite)
    assert [(one.task, one.items, one.item_ids, one.role) for one in wanted] == [
        ("colours", 8, None, "scored"), ("sums", None, None, "scored"),
        ("mixed", None, ("sum/4", "colour/3"), "scored"),
    ]  # fmt: skip
    assert [(one.task, one.role) for one in wanted_of(suite, held_out=True)][3:] == [("tail", "held out")]


def test_a_suite(suite, registry, scorer, tmp_path):
    results = run(wanted_of(suite), registry, scorer, tmp_path / "r", ME, suite=suite)
    assert [(one.task, one.answered) for one in results.manifest.tasks] == [
        ("colours", 8), ("sums", 10), ("mixed", 2),
    ]  # fmt: skip
    assert results.likelihoods(results.manifest.tasks[2]).ids.tolist() == ["sum/4", "colour/3"]
    head = results.manifest.suite
    assert head is not None and (head.digest, head.tasks) == (suite.digest, 3)


def test_right_answers_alone_only_where_bits_are_wanted(suite, registry, scorer, tmp_path):
    whole = run(wanted_of(suite), registry, scorer, tmp_path / "a", ME, suite=suite)
    part = run(wanted_of(suite), registry, scorer, tmp_path / "b", ME, suite=suite, gold_only=True)
    of = {one.task: part.likelihoods(one) for one in part.manifest.tasks}
    assert of["colours"].answered.all() and (of["mixed"].answered.sum(axis=1) == 1).all()
    for one in whole.manifest.tasks:
        both = whole.likelihoods(one)
        np.testing.assert_allclose(of[one.task].gold_of(of[one.task].ll), both.gold_of(both.ll), rtol=1e-6)
    metrics = set(part.to_frame().query("task == 'mixed'")["metric"])
    assert {"bpb", "bpb_bytes", "gold_ce_loss"} <= metrics and "p_correct" not in metrics
    with pytest.raises(StagewiseError, match=r"settings\.gold_only was True, is False"):
        run(wanted_of(suite), registry, scorer, tmp_path / "b", ME, suite=suite)


def test_items_at_hand(registry, scorer, tmp_path):
    suite = Suite.read(suite_file(tmp_path / "s.yaml", {"task": "colours", "items": 100}, {"task": "sums"}))
    results = run(wanted_of(suite), registry, scorer, tmp_path / "a", ME, suite=suite)
    assert "task colours: 100 items asked for, 12 at hand" in why(results)["colours"]
    assert [one.task for one in results.manifest.tasks] == ["sums"]
    results = run(wanted_of(suite), registry, scorer, tmp_path / "b", ME, suite=suite, at_hand=True)
    assert why(results) == {} and [one.answered for one in results.manifest.tasks] == [12, 10]


# --- bad input --------------------------------------------------------------------------------------


BAD = {
    "empty": ([free(0), free(1, answer=" ")], "item 'sum/1'): no answer to score: answer is ' '"),
    "choiceless": ([choice(0), choice(1, choices=[])], "item 'colour/1'): field gold: got 3, valid is -1"),
    "gold": ([choice(0), choice(1, gold=4)], "item 'colour/1'): field gold: got 4, valid is 0 to 3"),
    "nothing": ([choice(0, choices=["a", ""], gold=0, answer="a")], "choice 1 is ''; valid is text"),
    "endless": (
        [free(0), free(1, answer=LONG)],
        "task endless, item 'sum/1': the answer ' the bird",
    ),
    "nan": ([choice(i) for i in range(5)] + [choice(5, context="~ so the")],
            "task nan, item 'colour/5': got a log-likelihood of nan, valid is a finite number"),
    "unsafe": ([choice(0)], "task unsafe: not scored: runs what the model writes"),
    "halves": ([free(0, answer="\ud83d")], "half a surrogate pair"),
}  # fmt: skip
ABOUT = [{"task": "unsafe", "unsafe": "runs what the model writes"}]
ODD = ("../../etc/passwd", "{{7*7}}", "os.system", "__import__('os')", "missing")


def test_bad_tasks_are_told_and_the_others_go_on(tmp_path):
    folder = task_folder(
        tmp_path / "tasks", {n: items for n, (items, _) in BAD.items() if n != "halves"}, ABOUT
    )
    (folder / "halves.jsonl").write_text(json.dumps(BAD["halves"][0][0]))
    task_folder(
        folder, {"good": ITEMS["colours"], "emoji": [free(i, answer="👩‍🚀é" * (i + 1)) for i in range(4)]}
    )
    model = tiny_llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer().convert_tokens_to_ids("~")] = torch.nan
    names = ("good", *BAD, *ODD, "emoji")
    results = run(
        want(*names),
        Registry((TaskFolder.open(folder),)),
        Scorer(model, tiny_tokenizer()),
        tmp_path / "r",
        ME,
    )
    assert [one.task for one in results.manifest.tasks] == ["good", "emoji"]
    reasons = why(results)
    assert set(reasons) == {*BAD, *ODD}
    for name, (_, told) in BAD.items():
        assert told in reasons[name], (name, reasons[name])
        assert "\n" not in reasons[name] and name in reasons[name]
    for name in ODD:
        assert reasons[name].startswith(f"task {name!r}: not among")
    here = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").rglob("*.*")}
    assert here == {"manifest.json", "scores.parquet", "items/good@0.parquet", "items/emoji@0.parquet"}
    # A model that is not broken says the same of the good task: the broken item left no trace but rounding.
    sound = Scorer(tiny_llama(), tiny_tokenizer()).score(Registry((TaskFolder.open(folder),)).task("good"))
    np.testing.assert_allclose(results.likelihoods(results.manifest.tasks[0]).ll, sound.ll, rtol=1e-6)


def test_a_context_that_is_cut_is_counted(tmp_path):
    items = [choice(0), choice(1, context=LONG + "sky is"), choice(2)]
    registry = Registry((TaskFolder.open(task_folder(tmp_path / "tasks", {"long": items})),))
    results = run(want("long"), registry, Scorer(tiny_llama(), tiny_tokenizer()), tmp_path / "r", ME)
    done = results.manifest.tasks[0]
    assert done.truncated == 1 and results.likelihoods(done).truncated.tolist() == [False, True, False]


def test_a_vocabulary_smaller_than_the_tokenizers(registry, tmp_path):
    scorer = Scorer(tiny_llama(vocab=258), tiny_tokenizer())
    results = run(ALL, registry, scorer, tmp_path, ME)
    assert "task colours, item 'colour/0': the tokenizer gives the id" in why(results)["colours"]
    assert "embeddings for 0 to 257 only" in why(results)["colours"]


def test_weights_that_are_no_numbers(registry, tmp_path):
    model = tiny_llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    results = run(ALL, registry, Scorer(model, tiny_tokenizer()), tmp_path, ME)
    assert set(why(results)) == set(ITEMS) and results.manifest.tasks == ()
    assert "task sums, item 'sum/0': got a log-likelihood of nan" in why(results)["sums"]
    assert not (tmp_path / "scores.parquet").exists()


def test_nothing_to_score(registry, scorer, tmp_path):
    with pytest.raises(UsageError, match="no task to score"):
        run((), registry, scorer, tmp_path / "r", ME)
    assert not (tmp_path / "r").exists()


def test_solved_examples_that_a_task_lacks(registry, scorer, tmp_path):
    results = run(want("colours", shots=3), registry, scorer, tmp_path, ME)
    assert "3 solved examples asked for, valid is 0;" in why(results)["colours"]


def test_progress_counts_all_that_is_left(registry, scorer, tmp_path):
    seen: list[tuple[int, int, str]] = []
    run(ALL, registry, scorer, tmp_path, ME, progress=lambda *step: seen.append(step))
    counts = [done for done, _, _ in seen]
    assert (
        counts == sorted(counts) and counts[-1] == seen[-1][1] and len({total for _, total, _ in seen}) == 1
    )
    assert list(dict.fromkeys(name for *_, name in seen)) == list(ITEMS)

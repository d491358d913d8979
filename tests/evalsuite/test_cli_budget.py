"""Budgets on the command line: files that follow from scores, findings in words, and wrong calls."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from evalsuite import economy
from evalsuite.quality import assess
from scaling.classes import classify
from tests.evalsuite.console import caller
from tests.evalsuite.world import STAGE, TASKS, remembered, scores
from tests.scaling.test_item_windows import planted

BUILD = ("build", "--scores", "scores.csv", "--stage", STAGE, "--replicates", "20")
BUDGET = (*BUILD, "--budget", "40%")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    frame = scores()
    frame[frame["metric"] != "p_correct"].to_csv(folder / "scores.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def classified():
    return remembered()


@pytest.fixture
def run(home: Path, classified, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr("evalsuite.build.classify", classified)
    monkeypatch.setattr(economy, "assess", partial(assess, splits=2, draws=5, resamples=10))
    return caller(monkeypatch, capsys)


def test_build_check_edit_show_and_diff_under_a_budget(run, home: Path, monkeypatch) -> None:
    code, out, err = run(*BUDGET, "-o", "a.yaml", "--audit", "audit.csv")
    assert code == 0, err
    told = {line.split(":")[0].split(" (")[0]: line for line in out.splitlines()}
    assert re.search(r"per model, \d\d% of .*\(budget 40%\)", told["cost"])
    assert "suite " in told["quality"] and "all tasks " in told["quality"] and "random " in told["quality"]
    assert "not measured (build with --leave-families-out)" in told["stability"]
    assert "decision accuracy: not measured" in out
    assert "cost" in (home / "audit.csv").read_text().splitlines()[0].split(",")
    text = (home / "a.yaml").read_text()
    assert f"#   evalsuite {' '.join(BUDGET[:-2])} --budget 40%\n" in text
    found = yaml.safe_load(text)
    assert found["budget"]["tokens"] <= 0.4 * found["budget"]["full"]
    assert found["budget"]["tokens"] == sum(task["cost"] for task in found["tasks"])
    assert found["provenance"]["settings"]["budget"] == "40%"

    with monkeypatch.context() as anew:
        anew.setattr("evalsuite.build.classify", classify)
        assert run(*BUDGET, "-o", "b.yaml")[0] == 0
    assert (home / "b.yaml").read_bytes() == (home / "a.yaml").read_bytes()
    assert run(*BUDGET, "-o", "a.yaml", "--check")[0] == 0
    part = next(task for task in found["tasks"] if "of" in task)
    (home / "a.yaml").write_text(text.replace(f"items: {part['items']}\n", "items: 51\n", 1))
    code, out, err = run(*BUDGET, "-o", "a.yaml", "--check")
    assert code == 3 and "items: 51" in out and "the budget is spent otherwise" in out
    assert "--budget 40%" in err
    code, out, _ = run("diff", "a.yaml", "b.yaml", "--json")
    (move,) = json.loads(out)["moves"]
    assert (move["what"], move["before"], move["after"]) == ("items", "51", str(part["items"]))
    code, out, err = run("show", "a.yaml")
    assert code == 0 and "edited" in err
    for name in ("cost: ", "quality (latent agreement", "decision accuracy: ", "stability: "):
        assert sum(line.startswith(name) for line in out.splitlines()) == 1
    assert f"51 of {part['of']:,}" in out
    shown = json.loads(run("show", "b.yaml", "--json")[1])
    assert shown["budget"]["budget"] == "40%" and shown["quality"]["splits"] == 2
    assert run("diff", "b.yaml", "b.yaml", "--exit-code")[0] == 0


def test_json_of_a_build_and_whole_tasks(run) -> None:
    code, out, err = run(*BUDGET, "--whole", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["budget"]["objective"] == "decision-accuracy" and found["budget"]["shrinkage"] is not None
    assert all(task["items"] == 1000 and task["of"] is None for task in found["tasks"])
    lost = [
        task["reason"] for task in found["dropped"] if task["reason"].startswith("over the budget of 40%")
    ]
    assert lost and len(found["tasks"]) + len(lost) + len(found["held_out"]) <= len(TASKS)


def test_without_a_budget_costs_are_told_all_the_same(run) -> None:
    found = yaml.safe_load(run(*BUILD)[1])
    assert found["budget"]["budget"] is None and found["budget"]["objective"] == "clusters"
    assert found["budget"]["tokens"] == found["budget"]["full"] and "quality" not in found
    assert all("of" not in task and task["cost"] > 0 for task in found["tasks"])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("--budget", "much"), 2, "valid is a share of the full cost, as 20%, or tokens, as 5e6"),
        (("--budget", "120%"), 2, "budget '120%': not above 0 and at most 100"),
        (("--objective", "clusters", "--budget", "20%"), 2, "goes with the objective decision-accuracy"),
        (("--objective", "luck"), 2, "luck"),
        (("--budget", "1000"), 1, "1,000 tokens are less than any task costs"),
        (("--items", "nosuch"), 1, "nosuch: no such folder"),
        (("--item-scores", "nosuch.npz", "--budget", "20%"), 1, "nosuch.npz: no such file"),
        (("--leave-families-out", "--jobs", "0"), 2, "jobs: got 0"),
    ],
)
def test_a_wrong_call_is_one_message_and_leaves_the_file(
    run, home: Path, change, code: int, words: str
) -> None:
    (home / "kept.yaml").write_text("mine\n")
    found, out, err = run(*BUILD, "-o", "kept.yaml", *change)
    assert (found, out) == (code, "") and words in err and "Traceback" not in err
    assert (home / "kept.yaml").read_text() == "mine\n"


def test_a_bad_budget_is_told_before_anything_is_read(run) -> None:
    code, _, err = run("build", "--scores", "nosuch.csv", "--stage", STAGE, "--budget", "much")
    assert code == 2 and "budget 'much'" in err


def test_families_left_out(run, home: Path) -> None:
    """Planted: three families over all sizes on one curve; none carries a class alone."""
    frame = scores(tasks={task: TASKS[task] for task in ("alpha", "beta", "gamma")})
    frame = frame[frame["metric"] == "acc"]
    number = frame["family"].str[1:].astype(int) % 3
    frame.assign(family="f" + number.astype(str)).to_csv(home / "three.csv", index=False)
    code, out, err = run(
        "build",
        "--scores",
        "three.csv",
        *BUILD[3:],
        "--leave-families-out",
        "--jobs",
        "1",
        "-o",
        "steady.yaml",
    )
    assert code == 0, err
    line = next(line for line in out.splitlines() if line.startswith("stability: "))
    assert line.startswith("stability: without one of 3 families 0.0% of the classes change")
    found = yaml.safe_load((home / "steady.yaml").read_text())["stability"]
    assert (found["families"], found["changed"], found["worst_changed"]) == (3, 0.0, 0.0)
    assert "--leave-families-out" in (home / "steady.yaml").read_text().splitlines()[2]


def test_items_at_hand_are_measured_and_results_name_them(run, home: Path) -> None:
    """By hand: the items of one task are a thousand times dearer, so that the budget drops it; per-item
    results choose the items of another."""
    folder = home / "tasks"
    folder.mkdir()
    item = {"id": "1", "context": "a" * 400_000, "choices": ["yes", "no"], "gold": 0, "answer": "yes"}
    (folder / "delta.jsonl").write_text(json.dumps(item) + "\n")
    results = planted(np.linspace(19, 21, 1000), noise=0.3)
    frame = scores(tasks={"alpha": (20.0, 0.6)}).iloc[:1]
    rows = [
        {**frame.iloc[0].to_dict(), "model": model, "family": "items", "step": step, "flops": flops,
         "task": "listed", "metric": "gold_ce_loss", "score": 3.0, "seed": 0}
        for model, step, flops in zip(results.model, results.step, results.flops, strict=True)
    ]  # fmt: skip
    both = scores(noise=0.02)
    both = both[both["metric"] == "acc"]
    pd.concat([both, pd.DataFrame(rows)]).to_csv(home / "both.csv", index=False)
    paths = []
    for task in TASKS:
        path = home / f"made_items_{task}.npz"
        np.savez(path, model=results.model, step=results.step, loss=results.scores)
        paths += ["--item-scores", path.name]
    code, out, err = run(
        "build", "--scores", "both.csv", "--stage", STAGE, "--replicates", "20", "--budget", "100000",
        "--items", "tasks", *paths, "--no-held-out",
    )  # fmt: skip
    assert code == 0, err
    found = yaml.safe_load(out)
    assert "delta" in {task["task"] for task in found["dropped"]}
    named = [task for task in found["tasks"] if "item_ids" in task]
    assert named and all(len(task["item_ids"]) == task["items"] < task["of"] == 1000 for task in named)
    assert "--items tasks --item-scores made_items_alpha.npz" in out.splitlines()[2]

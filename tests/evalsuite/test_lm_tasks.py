"""Tasks of lm-eval by name: its figures from our scorer, and what it is not let do."""

import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lm_eval")

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evalsuite.lm import ScorerLM
from evalsuite.lm_tasks import HarnessTasks
from evalsuite.measures import summarise
from evalsuite.scorer import Scorer
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer

NO_MEANS = ("brier_score", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
MEAN = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
FUNCTIONS = """
from pathlib import Path
import os, random
Path(__file__).with_name("ran").touch()

def shuffled(docs):
    order = list(range(len(docs)))
    random.shuffle(order)
    return docs.select(order)

def may_execute(doc, results):
    return {"acc": float("HF_ALLOW_CODE_EVAL" in os.environ)}
"""


def choices(**changed) -> dict:
    metrics = [*MEAN, *({**MEAN[0], "metric": name} for name in ("acc_norm", "acc_bytes"))]
    brier = {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}
    return {
        "output_type": "multiple_choice", "doc_to_text": "Question: {{q}}?\nAnswer:", "doc_to_choice": "c",
        "doc_to_target": "g", "fewshot_split": "test", "num_fewshot": 2, "metric_list": [*metrics, brier],
    } | changed  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """YAML tasks over hand-written items, one of each kind that matters here."""
    folder = tmp_path_factory.mktemp("tasks")
    words = ["the cat", "a farmer", "é 漢", "the largest number of all"]
    lines = [
        {"q": f"what is {i}", "c": words[i % 3 : i % 3 + 2], "g": i % 2, "u": f"a text of {i} words",
         "two": [f"{i} The cat", f"{i} The dog"], "rest": f" sat on mat {i}", "all": [0, 1]}
        for i in range(8)
    ]  # fmt: skip
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "functions.py").write_text(FUNCTIONS)
    partial = {"doc_to_text": "g", "doc_to_choice": "two", "doc_to_target": "rest", "num_fewshot": 0}
    write = {"output_type": "generate_until", "doc_to_text": "q", "doc_to_target": "u",
             "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
             "metric_list": [{**MEAN[0], "metric": "exact_match"}]}  # fmt: skip
    tasks = {
        "made": choices(tag="some"),
        "mutual": choices(tag="some", metric_list=[*MEAN, {**MEAN[0], "metric": "acc_mutual_info"}]),
        "partial": choices(**partial, metric_list=MEAN, target_delimiter=""),
        "several": choices(doc_to_target="all", num_fewshot=0, metric_list=MEAN),
        "words": {"output_type": "loglikelihood", "doc_to_text": "q", "doc_to_target": "u", "num_fewshot": 0,
                  "metric_list": [*MEAN, {**MEAN[0], "metric": "perplexity", "aggregation": "perplexity"}]},
        "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "u"},
        "writes": write,
        "shuffles": choices(process_docs="!function functions.shuffled", num_fewshot=0),
        "executes": choices(process_results="!function functions.may_execute", metric_list=MEAN),
        "unsafe": write | {"unsafe_code": True, "process_docs": "!function functions.shuffled"},
        "gone": choices(dataset_kwargs={"data_files": {"test": str(folder / "gone.jsonl")}}),
    }  # fmt: skip
    for name, config in tasks.items():
        common = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        text = yaml.safe_dump({"task": name, **common, "test_split": "test", **config})
        # A dumped tag is quoted, and then a text.
        (folder / f"{name}.yaml").write_text(re.sub(r"'(!function \S+)'", r"\1", text))
    weighed = [{"metric": "acc", "weight_by_size": True}]
    groups = {
        "pair": {"task": ["made", {"task": "partial"}], "aggregate_metric_list": weighed},
        "hidden": {"task": ["made", {"group": "inner", "task": [{"task": "words", "unsafe_code": True}]}]},
    }
    for name, config in groups.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"group": name, **config}))
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """No file of a test stays in the user's cache of data sets."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model():
    return tiny_llama(4)


@pytest.fixture(scope="module")
def lm(model):
    return ScorerLM(Scorer(model, tiny_tokenizer()))


@pytest.fixture
def tasks(folder):
    return HarnessTasks((folder,))


@pytest.mark.parametrize("name", ["made", "mutual", "partial", "words", "rolling", "writes", "shuffles"])
def test_rows_are_those_of_lm_eval(tasks, folder, lm, model, name):
    """Oracle: `lm_eval.simple_evaluate` with HFLM, its seeds and all."""
    oracle = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=1), tasks=[name], bootstrap_iters=10,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )  # fmt: skip
    assert oracle is not None
    result = oracle["results"][name]
    rows = tasks.score(f"lm_eval:{name}", lm).rows
    theirs = {"brier": "brier_score"}
    shown = {key for key in result if key.endswith(",none") and "_stderr" not in key}
    assert {f"{theirs.get(row.metric, row.metric)},none" for row in rows.itertuples()} == shown
    for row in rows.itertuples():
        metric = theirs.get(row.metric, row.metric)
        assert row.score == pytest.approx(result[f"{metric},none"], rel=1e-6)
        if np.isfinite(row.stderr):
            assert row.stderr == pytest.approx(result[f"{metric}_stderr,none"], abs=1e-9)
        else:
            assert metric in NO_MEANS
        assert (row.task, row.shots, row.n_items) == (name, oracle["n-shot"][name], 8)


@pytest.mark.parametrize("name", ["made", "mutual", "partial", "words"])
def test_likelihoods_give_the_same_rows(tasks, lm, name):
    """What is kept of each item gives the scores that lm-eval gave."""
    found = tasks.score(name, lm)
    likelihoods = found.likelihoods[name]
    ours = summarise(likelihoods)
    for row in found.rows.itertuples():
        if row.metric in ("acc", "acc_norm", "acc_bytes", "brier"):
            assert row.score == pytest.approx(ours[row.metric].score, rel=1e-12)
    assert likelihoods.ids.tolist() == [str(i) for i in range(8)]
    assert (likelihoods.n_choices > 0).all() == (name != "words")
    assert likelihoods.shots == (2 if name in ("made", "mutual") else 0)
    gold = {"partial": " sat on mat 0", "words": "a text of 0 words"}.get(name, " the cat")
    assert likelihoods.gold_of(likelihoods.bytes)[0] == len(gold.removeprefix(" "))
    assert likelihoods.gold_of(likelihoods.tokens)[0] == len(tiny_tokenizer()(gold)["input_ids"])


def test_no_likelihoods_where_scores_do_not_follow(tasks, lm):
    """Several right answers, scores of a task's own making, texts without answers."""
    for name in ("several", "executes", "rolling", "writes"):
        found = tasks.score(name, lm)
        assert len(found.rows) and not found.likelihoods


def test_groups_tags_shots_and_limit(tasks, lm):
    found = tasks.score("pair", lm)
    acc = found.rows[found.rows.metric == "acc"].set_index("task")
    assert set(found.likelihoods) == {"made", "partial"}
    assert acc.score["pair"] == pytest.approx((acc.score["made"] + acc.score["partial"]) / 2)
    assert acc.n_items["pair"] == 16
    assert set(tasks.score("some", lm).likelihoods) == {"made", "mutual"}
    few = tasks.score("made", lm, shots=1, limit=3)
    assert set(few.rows.shots) == {1} and set(few.rows.n_items) == {3}
    assert few.likelihoods["made"].shots == 1
    assert set(tasks.score("made", lm).rows.shots) == {2}
    with pytest.raises(UsageError, match=r"task lm_eval:words: 5 examples asked for, .* fixes 0"):
        tasks.score("words", lm, shots=5)


def test_unsafe_tasks_are_refused_before_they_are_built(tmp_path, folder, lm):
    """Nothing that the task names is imported: its module leaves a file when it is."""
    tasks = HarnessTasks((folder,))
    (folder / "ran").unlink(missing_ok=True)
    with pytest.raises(StagewiseError, match=r"task lm_eval:unsafe: .* marked unsafe_code: .* bits per byte"):
        tasks.score("unsafe", lm)
    with pytest.raises(StagewiseError, match="task lm_eval:words: not scored: it is marked unsafe_code"):
        tasks.score("hidden", lm)
    assert not (folder / "ran").exists()


def test_who_cannot_write_is_told_before_the_data_are_loaded(tasks):
    model = torch.nn.Embedding(400, 400)
    with pytest.raises(StagewiseError, match="task lm_eval:writes: not scored: the model has to write text"):
        tasks.score("writes", ScorerLM(Scorer(model, tiny_tokenizer(), max_length=64)))


def test_a_path_is_no_name(tasks, folder, lm, monkeypatch):
    """lm-eval takes the path of a file for a task; a suite's file must not reach that."""
    monkeypatch.setattr(HarnessTasks, "_all", property(lambda self: self._own))
    (folder / "ran").unlink(missing_ok=True)
    with pytest.raises(UsageError, match="lm-eval has no task of that name"):
        tasks.score(str(folder / "shuffles.yaml"), lm)
    assert not (folder / "ran").exists()
    with pytest.raises(UsageError, match="near it are made"):
        tasks.score("lm_eval:mad", lm)
    with pytest.raises(UsageError, match="no such folder"):
        HarnessTasks((folder / "nowhere",))


def test_data_that_are_not_here(tasks, lm):
    with pytest.raises(
        StagewiseError, match=r"task lm_eval:gone: .* cannot load it \(FileNotFoundError: .*HF_HOME"
    ):
        tasks.score("gone", lm)


def test_state_is_left_and_no_code_may_run(tasks, lm, monkeypatch):
    """Random states, and the variable that lets metrics of code execute it: hidden, and put back."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    before = states()
    rows = tasks.score("executes", lm).rows
    assert rows.score.tolist() == [0.0]
    assert os.environ["HF_ALLOW_CODE_EVAL"] == "1"
    assert states() == before


def states() -> tuple:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()

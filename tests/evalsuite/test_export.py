"""Suites as files of lm-eval: the plain command gives our figures, and no text becomes code."""

import ast
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evalsuite import stagewise_metrics
from evalsuite.evidence import Evidence
from evalsuite.export import export_lm_eval
from evalsuite.items import Item
from evalsuite.measures import summarise
from evalsuite.registry import Registry
from evalsuite.suite import Cluster, HeldOut, Provenance, ScoreDigest, StageRange, Suite
from evalsuite.suite import Task as Entry
from evalsuite.tasks import Task
from scaling.errors import StagewiseError, UsageError
from scaling.tasks import TaskInfo

EVIDENCE = Evidence(
    **{"class": "early-signal"}, p=None, opens=1e19, closes=None, before_data=False, dp=0.9, covers=1.0,
    measured=1.0, gain=0.02, noise=0.01, runs=9,
)  # fmt: skip
_IMPORTS = (ast.Import, ast.ImportFrom)
BRACES = "{{ 7*7 }} {% for i in x %} {# no #} !function os.system \\n\u2028"


def item(n: int, context: str, choices=(), gold: int = -1, answer: str = "", **rest) -> Item:
    return Item(f"{n}", context, tuple(choices), gold, choices[gold] if choices else answer, **rest)


PLAIN = Task(
    "plain",
    tuple(
        item(i, f"{BRACES} number {i} is", ["odd", "even", f"the largest {BRACES}"], i % 3) for i in range(7)
    ),
    TaskInfo("plain"),
    prefix="Number 3 is odd\n\nNumber 4 is even\n\n",
    prefix_shots=2,
)
UNEVEN = Task(
    "uneven choices",  # a name that lm-eval's command could not take
    tuple(
        item(i, "" if i == 2 else "The cat", ["a", " the dog", "é漢"][: 2 + i % 2], i % 2) for i in range(5)
    ),
    TaskInfo("uneven choices"),
    delimiter="",
)
PARTIAL = Task(
    "partial",
    tuple(
        item(
            i, "The _ sat.", ["cat", "farmer"], i % 2, continuation=f"sat on the mat {i}",
            option_contexts=(f"{i} The cat", f"{i} The farmer"),
        )
        for i in range(6)
    ),
    TaskInfo("partial"),
)  # fmt: skip
FREE = Task(
    "free",
    tuple(item(i, f"def add_{i}(a, b):\n    ", answer=f"return a + b + {i}\n") for i in range(5)),
    TaskInfo("free"),
    delimiter="",
)
SKILL = Registry().task("skill_copy")
TASKS = {one.name: one for one in (PLAIN, UNEVEN, PARTIAL, FREE, SKILL)}


def suite(
    *names: str, aside: tuple[str, ...] = (), count: dict[str, int] | None = None, stage: str = "mid range"
) -> Suite:
    def fields(name: str) -> dict:
        shots = TASKS[name].prefix_shots if name in TASKS else 0
        items = (count or {}).get(name)
        return {"task": name, "metric": "acc", "shots": shots, "items": items, "cluster": 1,
                "reason": f"because {BRACES}", "evidence": EVIDENCE, "runner_up": None}  # fmt: skip

    digest = ScoreDigest(source="all", rows=9, models=3, digest="0" * 64)
    return Suite(
        format=1, stage=StageRange(name=stage, low=1e19, high=1e21), early_by=1e21, criterion="made",
        clusters=(Cluster(cluster=1, format="choice", weight=1.0),),
        tasks=tuple(Entry(**fields(name), weight=1 / len(names)) for name in names),
        held_out=tuple(HeldOut(**fields(name)) for name in aside), dropped=(),
        provenance=Provenance(
            scores=digest, sources=(digest,), settings={"seed": 0}, overrides=(), versions={"numpy": "2"}
        ),
    )  # fmt: skip


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_the_files(tmp_path):
    """A group whose members are there, each with its data; weights and evidence under metadata alone."""
    written = export_lm_eval(suite("plain", "free", count={"plain": 4}), TASKS, tmp_path / "out")
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    group = read(written[-1])
    assert set(group) == {"group", "task", "metadata"}
    assert group["group"] == written[-1].stem == "stagewise_mid_range"
    assert group["task"] == [f"stagewise_mid_range_{name}" for name in ("plain", "plain_gold", "free")]
    assert group["metadata"]["weights"] == {"plain": 0.5, "free": 0.5}
    plain = read(tmp_path / "out" / "stagewise_mid_range_plain.yaml")
    data = Path(plain["dataset_kwargs"]["data_files"]["test"])
    lines = [json.loads(line) for line in data.read_text().split("\n") if line]
    assert [line["id"] for line in lines] == [one.id for one in PLAIN.take(4).items]
    assert all(line["context"].startswith(PLAIN.prefix + BRACES) for line in lines)
    assert plain["metadata"]["evidence"]["class"] == "early-signal"
    assert (plain["num_fewshot"], plain["metadata"]["shots"]) == (0, 2)
    assert {plain[key] for key in ("doc_to_text", "doc_to_choice", "doc_to_target")} <= set(lines[0])


def test_same_input_same_bytes(tmp_path):
    """Nothing depends on time, order of the mapping, or what stood there before."""
    chosen = suite("plain", "partial", "free")
    first = {path.name: path.read_bytes() for path in export_lm_eval(chosen, TASKS, tmp_path)}
    other = dict(reversed(TASKS.items()))
    assert {path.name: path.read_bytes() for path in export_lm_eval(chosen, other, tmp_path)} == first
    changed = TASKS | {"free": replace(FREE, items=FREE.items[:4])}
    names = {path.name for path in export_lm_eval(chosen, changed, tmp_path)}
    assert len(names - set(first)) == 1  # other content, another file of data


def test_held_out_is_a_group_of_its_own(tmp_path):
    chosen = suite("plain", aside=("free",))
    assert not any("free" in path.name for path in export_lm_eval(chosen, TASKS, tmp_path / "a"))
    written = export_lm_eval(chosen, TASKS, tmp_path / "b", held_out=True)
    assert [path.stem for path in written[-2:]] == ["stagewise_mid_range", "stagewise_mid_range_held_out"]
    assert read(written[-1])["task"] == ["stagewise_mid_range_free"]


def plain(**changed) -> dict[str, Task]:
    return {"plain": replace(PLAIN, **changed)}


@pytest.mark.parametrize(
    ("names", "tasks", "told"),
    [
        (("plain", "gone", "lost"), {}, "no items for gone, lost; add the folder"),
        (("plain",), plain(unsafe="runs code"), "task plain: not exported: runs code"),
        (("plain",), plain(delimiter="{{ x }}"), "target_delimiter: .* template"),
        (("plain",), plain(delimiter="!function os.system"), "target_delimiter: .* function"),
        (("plain",), plain(items=PLAIN.items[:2] + FREE.items), "items of different kinds"),
        (("a b", "a_b"), {"a b": PLAIN, "a_b": FREE}, "two tasks would be called stagewise_mid_range_a_b"),
        (
            ("plain",),
            plain(prefix="", items=(item(0, "2020-01-01", ["a", "b"], 0),)),
            "would not leave the column context as it is",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, names, tasks, told):
    with pytest.raises(StagewiseError, match=told):
        export_lm_eval(suite(*names), TASKS | tasks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_that_are_refused(tmp_path):
    """A path that lm-eval would expand; tasks of an earlier export that it would still find."""
    with pytest.raises(UsageError, match="pattern"):
        export_lm_eval(suite("plain"), TASKS, tmp_path / "a*")
    export_lm_eval(suite("plain", "free"), TASKS, tmp_path)
    with pytest.raises(StagewiseError, match=r"range_free\.yaml: of an earlier export"):
        export_lm_eval(suite("plain"), TASKS, tmp_path)


def test_the_function():
    """Closed form: 2^-12 for four bytes is three bits a byte; `acc` of free answers alone."""
    told = [(-12 * math.log(2), True)]
    free = stagewise_metrics.process_results({"gold_bytes": 4}, told)
    assert free == {"bpb_gold": pytest.approx(3.0), "bpb_gold_bytes": (told[0][0], 4), "acc": 1}
    chosen = stagewise_metrics.process_results({"gold_bytes": 4, "gold": 0}, told)
    assert set(chosen) == {"bpb_gold", "bpb_gold_bytes"}


def test_the_code_is_ours_and_constant(tmp_path):
    """One file, byte for byte that of the package, which imports nothing of ours; one line names it."""
    tag = "!function"
    for name, chosen in (("a", suite("plain", "free")), ("b", suite("partial", stage=f"{tag} os.system"))):
        written = export_lm_eval(chosen, TASKS | plain(prefix=f"{tag} os.system\n"), tmp_path / name)
        (code,) = (path for path in written if path.suffix not in (".yaml", ".jsonl"))
        assert code == written[0]  # there before a task names it
        assert code.read_bytes() == Path(stagewise_metrics.__file__).read_bytes()
        for path in written:
            if path.suffix == ".yaml":
                text = path.read_text()
                asks = "output_type: loglikelihood\n" in text
                found = [one.value for one in yaml.scan(text) if isinstance(one, yaml.TagToken)]
                assert found == [("!", "function")] * asks
                assert text.count(f"\nprocess_results: {tag} stagewise_metrics.process_results\n") == asks
    imported = [one for one in ast.walk(ast.parse(code.read_text())) if isinstance(one, _IMPORTS)]
    assert [ast.unparse(one) for one in imported] == ["import math"]  # it runs where we are not installed


def test_two_suites_in_one_folder(tmp_path):
    """They share the function; one that this version does not write is left as it is, and told."""
    first = {path: path.read_bytes() for path in export_lm_eval(suite("plain", "free"), TASKS, tmp_path)}
    second = export_lm_eval(suite("free", stage="late"), TASKS, tmp_path)
    assert {path.name for path in set(first) & set(second)} == {"stagewise_metrics.py"}
    assert {path: path.read_bytes() for path in first} == first
    code = tmp_path / "stagewise_metrics.py"
    code.write_text("def process_results(doc, results): ...\n")
    with pytest.raises(StagewiseError, match=r"stagewise_metrics\.py: not the file that this version writes"):
        export_lm_eval(suite("free", stage="last"), TASKS, tmp_path)
    assert code.read_text().startswith("def") and not list(tmp_path.glob("*last*"))


def half_known(model, tokenizer) -> Task:
    """Free answers of one token: to every other question the model's likeliest, else one that is not."""
    items: list[Item] = []
    for i in range(200):
        ids = tokenizer(f"Number {i}:").input_ids
        logits = model(tokenizer(f"Number {i}:", return_tensors="pt").input_ids).logits[0, -1]
        likely = int(logits.argsort(descending=True)[len(items) % 2 * 5])
        answer = tokenizer.decode([likely])
        if answer.strip() and tokenizer(f"Number {i}:{answer}").input_ids == [*ids, likely]:
            items.append(item(i, f"Number {i}:", answer=answer))
    return Task("half known", tuple(items[:5]), TaskInfo("half known"), delimiter="")


# What `lm_eval` does, but for reading the 14,000 files of its own tasks, which takes most of its time.
COMMAND = """
from functools import partialmethod
from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager
TaskManager.__init__ = partialmethod(TaskManager.__init__, include_defaults=False)
cli_evaluate()
"""


def test_the_plain_command_gives_our_figures(tmp_path):
    """Oracle: the `lm_eval` command itself, on a saved model and tokenizer of transformers."""
    pytest.importorskip("lm_eval")
    from evalsuite.scorer import Scorer
    from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer

    model, tokenizer = tiny_llama(3), tiny_tokenizer()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    tasks = TASKS | {"half known": half_known(model, tokenizer)}
    chosen = suite(*tasks, count={"skill_copy": 20})
    export_lm_eval(chosen, tasks, tmp_path / "suite")
    # Another suite in the same folder, asked for in the same run.
    export_lm_eval(suite("free", stage="late"), TASKS, tmp_path / "suite")
    arguments = [
        "run", "--model", "hf", "--model_args", f"pretrained={tmp_path / 'model'},dtype=float32",
        "--include_path", str(tmp_path / "suite"), "--tasks", "stagewise_mid_range,stagewise_late",
        "--device", "cpu", "--batch_size", "4", "--output_path", str(tmp_path / "out"), "--log_samples",
    ]  # fmt: skip
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]
    scorer = Scorer(model, tokenizer)
    for entry in chosen.tasks:
        task = tasks[entry.task].take(entry.items)
        found = scorer.score(scorer.prepare(task, entry.shots))
        ours = summarise(found)
        name = "stagewise_mid_range_" + entry.task.replace(" ", "_")
        gold = name if task.free else f"{name}_gold"
        shown = {key.split(",")[0]: value for key, value in theirs[name].items() if key.endswith(",none")}
        for metric in ("acc",) if task.free or task is PARTIAL else ("acc", "acc_norm", "acc_bytes"):
            assert shown[metric] == pytest.approx(ours[metric].score, abs=1e-12)
            assert shown[f"{metric}_stderr"] == pytest.approx(ours[metric].stderr, abs=1e-12)
        even = len(set(found.n_choices.tolist())) == 1
        assert ("brier_score" in shown) == (even and not task.free)
        if "brier_score" in shown:
            assert shown["brier_score"] == pytest.approx(ours["brier"].score, rel=1e-6)
        bits = theirs[gold]
        assert bits["bpb_gold,none"] == pytest.approx(ours["bpb"].score, rel=1e-6)
        assert bits["bpb_gold_stderr,none"] == pytest.approx(ours["bpb"].stderr, rel=1e-5)
        assert bits["bpb_gold_bytes,none"] == pytest.approx(ours["bpb_bytes"].score, rel=1e-6)
        assert ("acc,none" in bits) == task.free
    assert theirs["stagewise_mid_range_half_known"]["acc,none"] == 0.6
    for metric in ("acc,none", "bpb_gold,none"):
        both = [theirs[f"stagewise_{stage}_free"][metric] for stage in ("mid_range", "late")]
        assert both[0] == pytest.approx(both[1], rel=1e-6)
    assert "bpb_gold" in ran.stdout  # in the table that it prints
    # No look-up of the name, no guess at its direction or its mean.
    assert not [line for line in ran.stderr.split("\n") if "bpb_gold" in line or "ggregation" in line]
    (samples,) = (tmp_path / "out").rglob("samples_stagewise_mid_range_plain_2*.jsonl")
    asked = [json.loads(line)["arguments"] for line in samples.read_text().split("\n") if line]
    texts = {one["gen_args_0"]["arg_0"] for one in asked}
    assert texts == {PLAIN.prefix + one.context for one in PLAIN.items}

"""A suite as files that the plain `lm_eval` command runs.

    lm_eval run --model hf --model_args pretrained=DIR --include_path FOLDER --tasks stagewise_<stage>

**What it shows.** For each task the same `acc`, `acc_norm`, `acc_bytes` and Brier score as our scorer, from
the same requests. A task `..._gold` asks for the right answer alone and shows our `bpb` as `bpb_gold` and our
`bpb_bytes` as `bpb_gold_bytes` (lm-eval 0.5 has a metric `bpb` with another denominator: hence the names); a
task with free answers shows both itself, beside `acc`.

**What it cannot show.** A headline: lm-eval takes plain means and knows neither the suite's weights nor the
metric that the suite goes by; both stand under `metadata`, and `evalsuite score` computes with them. A
standard error of `bpb_gold_bytes`, which is no mean. `acc_norm` of partial scoring: lm-eval divides by the
size of the contexts. Brier scores of a task whose items differ in their number of choices.

**What is code.** Nothing in lm-eval's configuration divides an item's log-likelihood by a number of its own,
so the right answers' tasks name one function, of `stagewise_metrics.py`, a copy of which lies beside them.
That file is ours and always the same. Nothing from a suite or a task reaches a template or an import: no
other tag stands in the YAML, and texts that look like one are quoted or refused.

**What is in the files.** Names of columns, never templates: what a context says reaches the model as it is.
Solved examples are part of the contexts (`num_fewshot: 0`), so that no other ones are drawn. A data file is
called by its content, since lm-eval's cache goes by name and time. The path to it is absolute, because
lm-eval takes a relative one from where it is called: after moving the folder, export again. A chat template
changes the requests; leave it off.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from evalsuite.requests import scored_bytes
from evalsuite.suite import HeldOut, Suite
from evalsuite.suite import Task as Entry
from evalsuite.tasks import Task
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing

_MARK = "# Written by `evalsuite export`: export again instead of editing.\n"
_CODE = "stagewise_metrics.py"
# The one reference to code, as it stands here: no name of a function is ever put together.
_FUNCTION = "process_results: !function stagewise_metrics.process_results\n"
_TEMPLATE = re.compile(r"\{\{|\{%|\{#|^!")
_MEAN = {"aggregation": "mean"}
_CHOICE = [{"metric": of, **_MEAN, "higher_is_better": True} for of in ("acc", "acc_norm", "acc_bytes")]
_BRIER = {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}
_GOLD = [
    {"metric": "bpb_gold", **_MEAN, "higher_is_better": False},
    {"metric": "bpb_gold_bytes", "aggregation": "bits_per_byte", "higher_is_better": False},
]


def export_lm_eval(
    suite: Suite, tasks: Mapping[str, Task], folder: str | os.PathLike[str], *, held_out: bool = False
) -> list[Path]:
    """Write a suite as YAML and JSONL for lm-eval: a group, its tasks, their items, and their one function.

    The group is called `stagewise_<stage>`, a task `stagewise_<stage>_<task>`, and what asks for its right
    answers alone `stagewise_<stage>_<task>_gold`. The same suite, tasks and folder give the same bytes.

    Args:
        suite: of `evalsuite build`. tasks: every task of the suite, by the suite's name for it.
        folder: for `--include_path`; made where it is missing. Suites of other stages may stand in it; they
            share `stagewise_metrics.py`.
        held_out: also write the tasks kept aside, as a group `stagewise_<stage>_held_out`.

    Returns:
        The files, the group last: while one is being written, the group does not name it yet.

    Raises:
        StagewiseError: a task that is missing, unsafe, or that lm-eval cannot ask as we do; a name that two
            tasks would share; a file of an earlier export that this one does not replace; another
            `stagewise_metrics.py`. Nothing is written.
        UsageError: a folder whose path lm-eval would take for a pattern.

    Example:
        >>> export_lm_eval(suite, tasks, "lm-eval/")[-1].name          # doctest: +SKIP
        'stagewise_mid.yaml'
    """
    folder = Path(folder).resolve()
    if wrong := sorted(set("*?[]{}:") & set(str(folder)[len(folder.drive) :])):
        raise UsageError(f"folder {folder}: has {' '.join(wrong)} in its path, a pattern to lm-eval's loader")
    group = f"stagewise_{_plain(suite.stage.name or 'suite')}"
    groups: list[tuple[str, Sequence[Entry | HeldOut]]] = [(group, suite.tasks)]
    if held_out:
        groups.append((f"{group}_held_out", suite.held_out))
    lost = [entry.task for _, entries in groups for entry in entries if entry.task not in tasks]
    if lost:
        raise StagewiseError(
            f"export: no items for {', '.join(lost)}; add the folder that holds them (`evalsuite tasks --add "
            "DIR`). Tasks of lm-eval itself need no export: name them beside the group"
        )
    # First, so that it is there before a task names it.
    files = {_CODE: (resources.files("evalsuite") / _CODE).read_text(encoding="utf-8")}

    def add(name: str, text: str) -> None:
        if name in files:
            raise StagewiseError(f"export: two tasks would be called {Path(name).stem}; rename one of them")
        files[name] = text

    last: dict[str, str] = {}
    for called, entries in groups:
        members: list[str] = []
        for entry in entries:
            data, configs = _task(tasks[entry.task], entry, f"{group}_{_plain(entry.task)}", folder)
            add(*data)
            for config in configs:
                add(f"{config['task']}.yaml", _yaml(config))
                members.append(config["task"])
        weights = {entry.task: entry.weight for entry in entries if isinstance(entry, Entry)}
        about = {"version": 1, "stage": str(suite.stage), "scores": suite.provenance.scores.digest}
        text = _yaml({"group": called, "task": members, "metadata": about | {"weights": weights}})
        add(f"{called}.yaml", text)
        last[f"{called}.yaml"] = text
    _check_members(files)
    _refuse_old(folder, group, files)
    for name, text in {**{k: v for k, v in files.items() if k not in last}, **last}.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in files if name not in last] + [folder / name for name in last]


def _task(
    task: Task, entry: Entry | HeldOut, name: str, folder: Path
) -> tuple[tuple[str, str], list[dict[str, Any]]]:
    """Name and text of the data file, and the configuration of each of its tasks."""
    if task.unsafe:
        raise StagewiseError(f"task {task.name}: not exported: {task.unsafe}")
    task = task.take(entry.items, entry.item_ids if isinstance(entry, Entry) else None)
    kinds = {(bool(item.choices), bool(item.option_contexts)) for item in task.items}
    if len(kinds) > 1:
        raise StagewiseError(
            f"task {task.name}: has items of different kinds (choices, free answers, partial scoring); "
            "lm-eval asks all items of a task alike: make it a task for each kind"
        )
    choices, partial = kinds.pop()
    records = _records(task, task.prompt(entry.shots), partial)
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    _check_readable(task.name, text, records)
    file = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    about = _about(task, entry)
    common = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / file)}},
        "test_split": "test", "num_fewshot": 0,
    }  # fmt: skip
    gold = {
        **common, "output_type": "loglikelihood", "doc_to_text": "gold_context" if partial else "context",
        "doc_to_target": "gold_answer", "metric_list": _GOLD, "metadata": about,
    }  # fmt: skip
    if not choices:
        gold["metric_list"] = [_CHOICE[0], *_GOLD]
        return (file, text), [_checked({"task": name, **gold}, records)]
    even = len({len(item.choices) for item in task.items}) == 1
    asks = {
        "output_type": "multiple_choice",
        "doc_to_text": "gold" if partial else "context",
        "doc_to_choice": "contexts" if partial else "choices",
        "doc_to_target": "continuation" if partial else "gold",
        "target_delimiter": task.delimiter,
        # The size of a context says nothing about the answer; lm-eval would divide by it.
        "metric_list": [*(_CHOICE[:1] if partial else _CHOICE), *([_BRIER] if even else [])],
        "metadata": about,
    }
    configs = [{"task": name, **common, **asks}, {"task": f"{name}_gold", **gold}]
    return (file, text), [_checked(one, records) for one in configs]


def _records(task: Task, prefix: str, partial: bool) -> list[dict[str, Any]]:
    """The rows of a data file."""
    records = []
    for item in task.items:
        gold = max(item.gold, 0)
        answer = task.delimiter + (item.continuation if partial else item.answer)
        record: dict[str, Any] = {"id": item.id, "group": item.group}
        if partial:
            if not all(prefix + context for context in item.option_contexts):
                raise StagewiseError(
                    f"task {task.name}, item {item.id!r}: an empty option context, which lm-eval cannot ask; "
                    "take the item out"
                )
            contexts = [prefix + context for context in item.option_contexts]
            record |= {"contexts": contexts, "continuation": item.continuation, "gold": gold}
            record["gold_context"] = contexts[gold]
        else:
            record["context"] = prefix + item.context
            if item.choices:
                record |= {"choices": list(item.choices), "gold": gold}
        records.append(record | {"gold_answer": answer, "gold_bytes": scored_bytes(answer)})
    return records


def _about(task: Task, entry: Entry | HeldOut) -> dict[str, Any]:
    """What the suite knows of a task; lm-eval passes it on and does not look inside."""
    about = {
        "version": 1, "task": entry.task, "metric": entry.metric, "shots": entry.shots,
        "items": len(task.items), "cluster": entry.cluster, "reason": entry.reason,
    }  # fmt: skip
    if isinstance(entry, Entry):
        about["weight"] = entry.weight
    return about | {"digest": task.digest, "evidence": entry.evidence.model_dump(by_alias=True, mode="json")}


def _checked(config: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """A configuration in which lm-eval finds no template and no column that is not there."""
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        # What is no column lm-eval takes for a template.
        if key in config and config[key] not in records[0]:
            raise StagewiseError(f"export: {config['task']}: {key}: no column {config[key]!r} in the data")
    for key, value in config.items():
        if isinstance(value, str) and _TEMPLATE.search(value):
            raise StagewiseError(
                f"export: {config['task']}: {key}: got {value!r}, which lm-eval could take for a template "
                "or a function; change it in the task's tasks.json"
            )
    return config


def _check_readable(name: str, text: str, records: list[dict[str, Any]]) -> None:
    """What lm-eval's loader makes of the data: a column of dates would no longer be text."""
    from pyarrow import ArrowInvalid, json

    raw = text.encode()
    try:
        found = json.read_json(io.BytesIO(raw), json.ReadOptions(block_size=len(raw) + 1)).to_pylist()
    except ArrowInvalid as error:
        raise StagewiseError(f"task {name}: lm-eval's loader cannot read the items ({error})") from error
    differ = [key for key in records[0] if any(a[key] != b[key] for a, b in zip(records, found, strict=True))]
    if differ:
        raise StagewiseError(
            f"task {name}: lm-eval's loader would not leave the column {differ[0]} as it is (it reads "
            f"{records[0][differ[0]]!r:.60} as {found[0][differ[0]]!r:.60}); take the task out of the suite, "
            "or add an item that is no date"
        )


def _check_members(files: Mapping[str, str]) -> None:
    """lm-eval calls a group valid whose tasks do not exist, so it is read back here."""
    for name, text in files.items():
        if name.endswith(".yaml") and "group" in (config := _read(text)):
            for member in config["task"]:
                one = _read(files[f"{member}.yaml"])
                data = Path(one["dataset_kwargs"]["data_files"]["test"]).name
                if one["task"] != member or data not in files:
                    raise StagewiseError(f"export: {name}: member {member} has no task or no data")


def _refuse_old(folder: Path, group: str, files: Mapping[str, str]) -> None:
    """lm-eval would still find the tasks of an earlier export, and other suites' tasks our new function."""
    for path in sorted(folder.glob("*.yaml")):
        ours = path.stem == group or path.stem.startswith(f"{group}_")
        if ours and path.name not in files and path.read_text(encoding="utf-8").startswith(_MARK):
            raise StagewiseError(
                f"{path}: of an earlier export, and not part of this one; remove it, or give an empty folder"
            )
    code = folder / _CODE
    if code.exists() and code.read_bytes() != files[_CODE].encode():
        raise StagewiseError(
            f"{code}: not the file that this version writes, and tasks of other exports may name it; give an "
            "empty folder, or remove it and export again every suite that stands beside it"
        )


def _plain(name: str) -> str:
    """A name of letters, digits, `_`, `.` and `-` only: neither a pattern nor a path nor a list."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _yaml(config: Mapping[str, Any]) -> str:
    """The text of a configuration. `safe_dump` writes no tag: the one there is is the constant line."""
    head = _MARK + (_FUNCTION if config.get("output_type") == "loglikelihood" else "")
    return head + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)


def _read(text: str) -> dict[str, Any]:
    """The inverse of `_yaml`, less the constant line; it fails at any other tag."""
    return yaml.safe_load(text.removeprefix(_MARK).removeprefix(_FUNCTION))

"""Models, tasks and suites on disk, small enough to be scored inside a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.suite import Suite
from tests.evalsuite.test_suite import example
from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer

COLOURS = ("red", "blue", "green", "yellow")
THINGS = ("ball", "door", "lake", "sky", "bag", "river", "mat", "horse", "bird", "drawer", "key", "market")


def model_folder(
    path: Path, seed: int = 0, *, change: Callable[[Any], None] | None = None, **options
) -> Path:
    """A tiny Llama as transformers saves it, its tokenizer beside it; `change` may alter its weights."""
    model = tiny_llama(seed, **options)
    if change is not None:
        change(model)
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def choice(i: int, **changes: Any) -> dict[str, Any]:
    """One question of four choices."""
    choices = list(COLOURS)
    record = {
        "id": f"colour/{i}", "context": f"{i + 1}. The colour of the {THINGS[i % len(THINGS)]} is",
        "choices": choices, "gold": (7 * i) % 4, "answer": choices[(7 * i) % 4],
    }  # fmt: skip
    return record | changes


def free(i: int, **changes: Any) -> dict[str, Any]:
    """One question with a free answer."""
    record = {
        "id": f"sum/{i}",
        "context": f"{i} + {i + 1} =",
        "choices": [],
        "gold": -1,
        "answer": str(2 * i + 1),
    }
    return record | changes


def task_folder(
    path: Path, tasks: Mapping[str, Sequence[dict[str, Any]]], about: Sequence[dict[str, Any]] = ()
) -> Path:
    """A folder of tasks: items by task, and the entries of its tasks.json."""
    path.mkdir(parents=True, exist_ok=True)
    for name, items in tasks.items():
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    if about:
        (path / "tasks.json").write_text(json.dumps(list(about)), encoding="utf-8")
    return path


def suite_file(path: Path, *tasks: dict[str, Any], held_out: Sequence[dict[str, Any]] = ()) -> Path:
    """A suite of tasks of equal weight; each gives `task` and what differs from (acc, 0 shots, all items)."""
    base = example()
    given = {
        "metric": "acc",
        "shots": 0,
        "items": None,
        "item_ids": None,
        "weight": 1 / len(tasks),
        "cluster": 1,
    }
    scored = [base.tasks[0].model_copy(update=given | one) for one in tasks]
    aside = [
        base.held_out[0].model_copy(update={"shots": 0, "items": None, "cluster": 1} | one)
        for one in held_out
    ]
    fields = dict(base) | {
        "clusters": (base.clusters[0].model_copy(update={"cluster": 1, "weight": 1.0}),),
        "tasks": tuple(scored), "held_out": tuple(aside), "dropped": (),
    }  # fmt: skip
    Suite.model_validate(fields).write(path, "evalsuite build ...")
    return path

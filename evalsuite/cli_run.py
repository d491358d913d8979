"""Commands that score models: `evalsuite tasks` and `run`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.display import cell, print_json, print_table, records, say
from scaling.errors import StagewiseError, UsageError
from scaling.progress import progress_bar

if TYPE_CHECKING:
    from evalsuite.results import Results
    from evalsuite.suite import Suite

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--tasks", help="Folder of task JSONL files, beside those registered. Repeatable."),
]


class Dtype(StrEnum):
    """What a model computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def tasks(
    add: Annotated[
        Path | None, typer.Option(help="Register a folder of task JSONL files, after reading all of it.")
    ] = None,
    remove: Annotated[Path | None, typer.Option(help="Take a folder off the list.")] = None,
    folders: Folders = None,
    match: Annotated[str, typer.Option(help="Only names that fit, such as 'skill_*'.")] = "*",
    seed: Annotated[int, typer.Option(min=0, help="Of generated items.")] = 0,
    as_json: Json = False,
) -> None:
    """List the tasks that can be scored, or register a folder of them.

    A folder holds a <task>.jsonl per task and may hold a tasks.json with what is known about them.

    Example: [bold]evalsuite tasks --add benchmarks/[/bold]
    """
    from evalsuite.registry import Registry, register, unregister

    if add is not None and remove is not None:
        raise UsageError("tasks: --add or --remove, one at a time")
    if remove is not None:
        unregister(remove)
        say(f"{remove}: no longer registered")
        return
    if add is not None:
        found = register(add)
        say(f"{add}: registered, {len(found)} tasks, {sum(len(one.items) for one in found.values()):,} items")
        return
    registry = Registry.open(folders or (), seed=seed)
    rows = []
    for name in registry.matching(match):
        try:
            task = registry.task(name)
        except StagewiseError as error:
            rows.append({"task": name, "problem": " ".join(str(error).split())})
            continue
        info = task.info
        rows.append(
            {
                "task": name, "capability": info.capability, "answers": "free" if task.free else "choices",
                "items": len(task.items), "chance": round(task.chance, 4),
                "shots": list(task.shots), "from": task.origin, "problem": task.unsafe,
            }
        )  # fmt: skip
    if as_json:
        print_json({"tasks": rows})
        return
    head = ("task", "capability", "answers", "items", "chance", "shots", "from", "problem")
    print_table(head, [tuple(cell(row.get(name)) for name in head) for row in rows])


def run(
    model: Annotated[str, typer.Option(help="Folder of a transformers model, or hf:NAME.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    suite: Annotated[Path | None, typer.Argument(help="A suite file; or name tasks with --task.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task, a pattern, or lm_eval:NAME. Repeatable.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Solved examples, for --task; as many as it has if absent.")
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Items of each task, for --task.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="By which to compare later, for --task; bpb where absent.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Score what the suite keeps aside, too.")
    ] = False,
    at_hand: Annotated[
        bool, typer.Option("--at-hand", help="Score those at hand where a suite asks more; no headline then.")
    ] = False,
    gold_only: Annotated[
        bool, typer.Option("--gold-only", help="Score right answers alone where the metric is bits per byte.")
    ] = False,
    folders: Folders = None,
    include_path: Annotated[
        list[Path] | None, typer.Option(help="Folder of lm-eval task YAML. Repeatable.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Where it is, if not beside the model.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="auto: as the weights are.")] = Dtype.auto,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:1.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens the model reads.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a batch.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of generated items.")] = 0,
    name: Annotated[str | None, typer.Option(help="What to call the model in the score table.")] = None,
    family: Annotated[str | None, typer.Option(help="Its family there.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="Its training step.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Its training tokens.")] = None,
    flops: Annotated[float | None, typer.Option(help="Its training FLOPs; 6*N*D where absent.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its data mixture or the like.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model on a suite, or on tasks by name.

    Writes score rows, the likelihoods of every item, and a manifest; takes up a folder where a run was cut
    off. Under torchrun the work is spread over the ranks.

    Example: [bold]evalsuite run suites/mid.yaml --model checkpoints/step-1000 -o results/[/bold]

    Nothing but the package: [bold]evalsuite run --task 'skill_*' --model hf:DIR -o results/[/bold]
    """
    from evalsuite.registry import Registry
    from evalsuite.results import Identity, Wanted

    if (suite is None) == (not task):
        raise UsageError("run: give a suite file or --task NAME, one of them")
    if suite is not None and (shots, items, metric) != (None, None, None):
        raise UsageError("run: --shots, --items and --metric go with --task; a suite says all three itself")
    if task and (held_out or at_hand):
        raise UsageError("run: --held-out and --at-hand go with a suite; give --items for --task")
    for option, value in (("--tokens", tokens), ("--flops", flops)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} {value:g}: valid is a positive number")
    known_metric(metric)
    registry = Registry.open(folders or (), seed=seed)
    found = None
    if suite is not None:
        found = read_suite(suite)
    _needs_torch()
    from evalsuite.loading import load_model
    from evalsuite.run import run as run_tasks
    from evalsuite.run import wanted_of
    from evalsuite.scorer import Scorer

    if found is not None:
        wanted = wanted_of(found, held_out=held_out)
    else:
        names = [one for each in task or () for one in _names(each, registry)]
        wanted = tuple(
            Wanted(task=one, metric=metric or "bpb", shots=shots, items=items) for one in dict.fromkeys(names)
        )
    with _ranks(device), _stoppable(output):
        loaded = load_model(model, tokenizer=tokenizer, dtype=dtype.value, device=device)
        for line in loaded.warnings:
            say(f"warning: {line}")
        scorer = Scorer(loaded.model, loaded.tokenizer, max_length=max_length, budget=batch_tokens)
        identity = Identity(
            model=name or loaded.name, family=family, step=step, tokens=tokens, flops=flops, variant=variant
        )
        with progress_bar("scoring") as bar:
            results = run_tasks(
                wanted, registry, scorer, output, identity, suite=found, gold_only=gold_only,
                at_hand=at_hand, include=tuple(map(str, include_path or ())), progress=bar,
            )  # fmt: skip
    if int(os.environ.get("RANK", 0)):
        return
    if scorer.parity is not None:
        say(f"{loaded.name}: run as {scorer.parity.words}")
    _tell(results, as_json)
    _finish(results)


def read_suite(path: Path) -> Suite:
    """A suite, with a warning where somebody edited it."""
    from evalsuite.documents import read_text
    from evalsuite.suite import Suite, edited

    text = read_text(path, "suite")
    if why := edited(text):
        say(f"warning: {path}: {why}")
    return Suite.parse(text, str(path))


def _names(pattern: str, registry) -> tuple[str, ...]:
    from evalsuite.tasks import LM_EVAL

    return (pattern,) if pattern.startswith(LM_EVAL) else registry.matching(pattern)


@contextmanager
def _ranks(device: str | None) -> Iterator[None]:
    """The process group of torchrun, where that started us."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    import torch

    on_gpu = torch.cuda.is_available() and not (device or "").startswith("cpu")
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _stoppable(output: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run with a word about what is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"{output}: stopped; tasks that are scored are kept, and the same command goes on with the others"
        )
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _needs_torch() -> None:
    from importlib.util import find_spec

    lost = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if lost:
        raise StagewiseError(
            f"scoring a model needs {' and '.join(lost)}, not installed here: pip install 'stagewise[eval]'"
        )


def _tell(results: Results, as_json: bool) -> None:
    manifest = results.manifest
    if as_json:
        scores = results.table().frame if manifest.tasks else None
        rows = [] if scores is None else records(scores)
        print_json({"manifest": manifest.model_dump(mode="json"), "scores": rows})
        return
    rows = []
    for done in manifest.tasks:
        found = results.scores(done).set_index("metric")[["score", "stderr"]].to_dict("index")
        name = done.metric if done.metric in found else next(iter(found))
        if name != done.metric:
            say(f"{done.task}: has no {done.metric}; shown is {name}")
        rows.append(
            {
                "task": done.task, "shots": done.examples, "items": done.answered, "metric": name,
                "score": found[name]["score"], "stderr": found[name]["stderr"],
                "bpb": found.get("bpb", {}).get("score"), "acc": found.get("acc", {}).get("score"),
                "chance": done.chance or None, "surface": done.surface,
                "above surface": None if done.beaten is None else "yes" if done.beaten else "no",
                "n-gram": ", ".join(
                    f"{name.split('_', 1)[-1]} {value:.4g}" for name, value in done.baselines.items()
                ),
                "truncated": done.truncated or None, "seconds": done.seconds,
            }
        )  # fmt: skip
    shown = [name for name in (rows[0] if rows else ()) if name != "n-gram" or any(row[name] for row in rows)]
    if rows:
        print_table(tuple(shown), [tuple(cell(row[name]) for name in shown) for row in rows])


def _finish(results: Results) -> None:
    missing = results.manifest.missing
    say(f"{results.folder}: {len(results.manifest.tasks)} task(s) scored, {len(missing)} missing")
    if missing:
        lines = [one.why if one.task in one.why else f"{one.task}: {one.why}" for one in missing]
        raise StagewiseError("\n  ".join(["missing:", *lines]))


def known_metric(metric: str | None) -> None:
    """Refuse a metric that scored items cannot give, before anything is scored."""
    if metric is None:
        return
    from evalsuite.measures import METRICS

    if metric not in METRICS:
        raise UsageError(f"--metric {metric!r}: valid are {', '.join(METRICS)}")

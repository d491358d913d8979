"""The commands `train study NAME`: small runs that settle a question about training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli_files import PICTURES, check_suffix, write_picture
from scaling.console import flops, note, print_json, print_table
from scaling.errors import UsageError
from scaling.options import Picture
from train.options import Config, Json, Settings, Sources, read, say, seeds_of, setting, source_of, work

if TYPE_CHECKING:
    import pandas as pd

    from train.studies.recovery import Recovery

# Settings of a study where neither the file nor the call says otherwise; and tiny ones, to see that it works.
SMALL: dict[str, Any] = {
    "data.tokenizer": 2048, "model.preset": "0.3m", "model.context": 128, "batch.rows": 8,
    "device.device": "cpu", "device.threads": 1,
}  # fmt: skip
TINY: dict[str, Any] = {
    "data.sources": [{"path": "embedded", "most": 10_000}], "data.tokenizer": "bytes",
    "data.held_out": 0.2, "data.overlap": False, "model.preset": "0.1m", "model.layers": 1,
    "model.width": 16, "model.heads": 2, "model.head_width": 8, "batch.rows": 2,
    "validation.tokens": 128, "device.device": "cpu", "device.threads": 1,
}  # fmt: skip
# So that three seeds take half an hour of a core.
_DEFAULTS = SMALL | {"steps": 960, "validation.tokens": 6144}
_SMOKE = TINY | {"steps": 70, "model.context": 32}
# What the study sets itself, and what to give instead.
_OURS = {
    "seed": "give --seeds", "tokens": "give --steps", "schedule.kind": "the rate is constant",
    "schedule.decay": "give --anneal", "schedule.floor": "the rate falls to zero",
    "checkpoint.every": "leave it out", "checkpoint.keep_every": "leave it out",
    "checkpoint.keep_last": "leave it out", "validation.every": "leave it out",
}  # fmt: skip

study = typer.Typer(no_args_is_help=True, help="Small runs that settle a question about training.")


@study.callback()
def _root() -> None:
    """Small runs that settle a question about training."""


@study.command("averaging")
def averaging_command(
    config: Config = None,
    source: Sources = None,
    steps: Annotated[int | None, typer.Option(min=1, help="To the last point; 960 where absent.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the model; 0.3m where absent.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", help="A run each; 0,1,2.")] = None,
    points: Annotated[
        str, typer.Option(metavar="SHARES", help="Of the run, where to look.")
    ] = "30%,60%,100%",
    anneal: Annotated[str, typer.Option(help="Length of a branch, as a share of the steps so far.")] = "15%",
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Instead of skills; * and ? match.")
    ] = None,
    items: Annotated[Path | None, typer.Option("--items", help="Folder of tasks, for --task.")] = None,
    most: Annotated[int | None, typer.Option("--most", min=1, help="Items of a task; 100.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time, one thread each.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write tables here; go on from there.")
    ] = None,
    picture: Picture = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny, to see that it works.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Does the mean of the last snapshots replace the anneal?

    Runs at constant learning rate; at each point the raw checkpoint, means of snapshots (number and spacing
    swept), and a real anneal branch: bits per byte of held-out text and scores of tasks, the share of the
    anneal's gain that a mean recovers, and what each costs. Text that comes with Python where none is named.

    Example: [bold]train study averaging --source prose=books/ --seeds 0,1,2 -o averaging/[/bold]
    """
    check_suffix(picture, PICTURES)
    seeded = seeds_of(seeds) if seeds is not None else (0, 1) if smoke else (0, 1, 2)
    places, length = [_share("--points", one) for one in points.split(",")], _share("--anneal", anneal)
    flags: dict[str, Any] = {"steps": steps, "model.preset": preset}
    if source:
        flags["data.sources"] = [source_of(one) for one in source]
    for name in dict(map(setting, settings or [])):
        if name in _OURS:
            raise UsageError(f"--set {name}: is the study's own; {_OURS[name]}")
    told = read(config, settings, flags, _SMOKE if smoke else _DEFAULTS)

    from evalsuite.registry import Registry
    from train.studies.averaging import SKILLS, averaging

    registry = Registry.open([items] if items is not None else [])
    names = [name for one in task or () for name in registry.matching(one)]
    with work("averaging") as progress:
        found = averaging(
            told, seeds=seeded, points=places, anneal=length,
            tasks=list(dict.fromkeys(names)) or (SKILLS[2:3] if smoke else SKILLS),
            items=most or (4 if smoke else 100), registry=registry, folder=output, jobs=jobs,
            progress=progress, say=say,
        )  # fmt: skip
    if output is not None:
        write_tables(found.tables, output, "what they follow from")
    if picture is not None:
        write_picture(found.plot(), picture)
    if as_json:
        tables = {name: one.to_dict("records") for name, one in found.tables.items() if name != "losses"}
        print_json({"level": found.level, **tables, "notes": found.notes})
    else:
        _print(found)
    for one in found.notes:
        note(one)


def _share(option: str, text: str) -> float:
    """A share, as 15% or 0.15."""
    number, percent, rest = text.strip().partition("%")
    try:
        found = float(number) / (100 if percent else 1)
    except ValueError:
        found = math.nan
    if rest or not 0 < found <= 1:
        raise UsageError(f"{option}: got {text!r}; valid is a share above 0, up to 1, as 15% or 0.15")
    return found


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path, rest: str) -> None:
    """Write the tables of a study as CSV, and say so; `rest` is what else is in the folder."""
    from scaling.files import replacing

    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)
    note(f"{folder}: {', '.join(f'{name}.csv' for name in tables)}, and {rest}")


def _print(found: Recovery) -> None:
    bpb = {name: name.replace("_", " ") for name in ("raw", "default", "annealed", "later", "later_default")}
    points = found.points.assign(rows=found.points["share"])
    _table(points, "share of the anneal's gain recovered by the mean a hook takes by default", {
        "step": "step", **bpb, "share": "share", "rows": "over rows of text", "margin": "below best",
        "below": "seeds below", "later_share": "later share", "span": "span",
        "anneal_share": "anneal of run", "anneal_flops": "anneal FLOPs", "default_flops": "mean FLOPs",
        "read_bytes": "mean bytes",
    })  # fmt: skip
    at = {f"at_{step}": f"at {step}" for step in found.points["step"]}
    names = {name: name for name in ("kind", "n", "span", "weights", "share", "worst")}
    _table(found.sweep, "share by number, span and weights of snapshots", names | at)
    three = {name: name for name in ("raw", "default", "annealed")}
    _table(found.domains, "by domain", {"step": "step", "domain": "domain", **three, "share": "share"})
    if len(found.scores):
        whole = found.scores[found.scores["task"] == "all"]
        gains = {"gain": "gain", "annealed_gain": "annealed gain"}
        _table(whole, "tasks, mean", {"step": "step", "metric": "metric", **bpb, **gains})
    seeds = found.losses["seed"].nunique()
    note(
        f"intervals are {found.level:.0%} over {seeds} seeds; losses in bits per byte, mean of domains"
        if seeds > 1
        else "one seed gives no interval; give --seeds 0,1,2"
    )


def _table(frame: pd.DataFrame, title: str, names: Mapping[str, str]) -> None:
    """Some columns of a frame; a figure with an interval carries it."""
    rows: list[list[str]] = []
    for one in frame.to_dict("records"):
        cells = []
        for name in names:
            cell = _cell(name, one[name])
            low, high = ("low", "high") if name == "share" else (f"{name}_low", f"{name}_high")
            if low in one and not math.isnan(one[low]):
                cell += f" [{_cell(name, one[low])}, {_cell(name, one[high])}]"
            cells.append(cell)
        rows.append(cells)
    columns = list(names.values())
    text = {"kind", "weights", "domain", "metric"}
    typer.echo(f"{title}:")
    print_table(columns, rows, right=[one for one in columns if one not in text])


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return ""
    if name.endswith("flops"):
        return flops(value) if value else "0"
    if name in ("step", "n", "below", "read_bytes"):
        return f"{int(value):,}" if name != "n" or value else ""
    if name in ("span", "anneal_share"):
        return f"{value:.1%}" if value else ""
    if name in ("share", "rows", "worst", "later_share") or name.startswith("at_"):
        return f"{value:.2f}"
    return f"{value:.4f}"

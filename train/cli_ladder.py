"""The command `train ladder`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.console import flops, print_json, print_table
from scaling.errors import StagewiseError
from train.options import Json, say, work


def ladder(
    name: Annotated[str, typer.Argument(metavar="PRESET", help="smoke, cpu or gpu.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the ladder; goes on from there.")],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Folder with DOMAIN.jsonl, .zst or .gz (and DOMAIN.val.jsonl, held out); text that "
            "comes with Python where absent."
        ),
    ] = None,
    items: Annotated[
        list[Path] | None, typer.Option("--items", help="Folder of tasks, besides the skills. Repeatable.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs at a time, one thread each; half the cores where absent, on a GPU one.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    plan: Annotated[bool, typer.Option("--plan", help="Say what it costs, and stop.")] = False,
    gather: Annotated[
        bool, typer.Option("--gather", help="Write the table of the runs done, and stop.")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Do one run again, and compare its scores with those kept."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Scores kept, for --verify; those of the package where absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and evaluate a ladder of models: sizes, lengths, data mixtures, seeds.

    The plan is printed first: FLOPs, hours, evaluation share. A run that is done is kept; the same call goes
    on with the others. At the end ladder.parquet and its card ladder.md are written into the folder.

    Example: [bold]train ladder cpu --corpus text/ --items benchmarks/ --jobs 2 -o ladder/[/bold]
    """
    from train.config import DeviceConfig
    from train.ladder.card import publish
    from train.ladder.climb import Place
    from train.ladder.presets import preset

    told = preset(name)
    jobs = jobs or (max(1, (os.cpu_count() or 2) // 2) if device == "cpu" else 1)
    on = DeviceConfig(device=device, threads=1 if device == "cpu" else None)
    with work("text") as progress:
        place = Place.open(output, told, corpus, items or (), on, progress)
    if verify is not None:
        _verify(place, verify, scores, as_json)
        return
    if not gather:
        costs = place.plan()
        for line in costs.told(jobs):
            say(line)
        if plan:
            _show(costs.by_size(), as_json)
            return
        with work("ladder") as progress:
            place.climb(jobs, progress, say)
    made = publish(place)
    if as_json:
        print_json(made)
        return
    typer.echo(
        f"{output / 'ladder.parquet'}: {made['rows']:,} scores of {made['runs']} runs, "
        f"{made['cells']:,} (run, step, task)"
    )


def _show(table: Any, as_json: bool) -> None:
    if as_json:
        print_json(table.to_dict("records"))
        return
    rows = [
        (one.size, str(one.runs), str(one.done), f"{one.params:,}", f"{one.tokens:,}", flops(one.flops),
         f"{one.hours:.2f}", f"{one.evaluation:.0%}")
        for one in table.itertuples()
    ]  # fmt: skip
    columns = ["size", "runs", "done", "params", "tokens", "flops", "hours", "evaluation"]
    print_table(columns, rows, right=columns[1:])


def _verify(place: Any, run: str, scores: Path | None, as_json: bool) -> None:
    """Do a run again; a failure where its scores are others."""
    from scaling.embedded import ladder as ladder_scores
    from scaling.scores import ScoreTable
    from train.ladder.verify import TOLERANCE, verify

    kept = ladder_scores("all") if scores is None else ScoreTable.read(scores)
    found = verify(place, run, kept)
    if as_json:
        print_json(found.differences.to_dict("records"))
    else:
        rows = [
            (str(one.metric), str(one.rows), str(one.equal), f"{one.mean:.2g}", f"{one.largest:.2g}")
            for one in found.differences.itertuples()
        ]
        columns = ["metric", "rows", "equal", "mean difference", "largest"]
        print_table(columns, rows, right=columns[1:])
    if found.exact:
        say(f"{run}: all {found.rows:,} scores are the same")
    elif found.within:
        say(
            f"{run}: {found.equal:,} of {found.rows:,} scores are the same, the others as near as on another "
            "machine"
        )
    else:
        most = ", ".join(f"{name} {value}" for name, value in TOLERANCE.items())
        raise StagewiseError(
            f"{run}: mean differences are above what another machine explains ({most}); text, items or code "
            "are others than those of the scores kept"
        )

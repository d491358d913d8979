"""The command `train average`: the mean of checkpoints as one file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scaling.console import note, print_json, print_table
from scaling.errors import UsageError
from train.options import Json, work


class Weights(StrEnum):
    """How much each checkpoint counts."""

    uniform = "uniform"
    linear = "linear"
    ema = "ema"


def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT...",
            help="Oldest first: RUN/checkpoints/step-N, a safetensors file, a Hugging Face folder; or RUN "
            "for its last 4 checkpoints.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, *.safetensors.")],
    weights: Annotated[
        Weights, typer.Option(help="All alike; 1, 2, .. n to the newest; or decay**age.")
    ] = Weights.uniform,
    decay: Annotated[float | None, typer.Option(help="Of ema: 0.5 where absent.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the mean of checkpoints as one safetensors file.

    Streamed: a few MB of memory, whatever the size. The float64 mean, rounded once to the dtype of the files.

    Example: [bold]train average runs/a -o mean.safetensors[/bold]
    """
    from evalsuite.file_average import average_files

    if decay is not None and weights != Weights.ema:
        raise UsageError(f"--decay: means nothing with --weights {weights}; valid is --weights ema")
    with work("averaging") as progress:
        made = average_files(
            checkpoints, output, weights=weights.value, decay=0.5 if decay is None else decay, force=force,
            progress=progress,
        )  # fmt: skip
    if as_json:
        members = [vars(one) for one in made.members]
        told = {"tensors": made.tensors, "parameters": made.parameters, "copied": made.copied}
        print_json({"path": made.path, "members": members, **told, "bytes": made.size})
        return
    rows = [
        (one.name, "" if one.step is None else f"{one.step:,}", f"{one.weight:.4g}") for one in made.members
    ]
    print_table(("checkpoint", "step", "weight"), rows, right=("step", "weight"))
    copied = f"; {len(made.copied)} of whole numbers are those of the last" if made.copied else ""
    counts = f"{made.parameters:,} parameters in {made.tensors:,} tensors"
    note(f"{made.path}: {counts}, {made.size:,} bytes{copied}")

"""The command `train`: data on stdout, messages on stderr.

Exit codes: 0 done (or stopped by a signal, with a checkpoint), 1 failed, 2 wrong call.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.console import leaving, note, print_json, print_table
from scaling.errors import UsageError
from train.cli_average import average
from train.cli_ladder import ladder
from train.cli_study import study
from train.cli_study_alarms import alarms
from train.cli_tokenizer import tokenizer
from train.cli_watch import watch
from train.options import Config, Json, Settings, Sources, read, say, setting, source_of, work

if TYPE_CHECKING:
    from train.loop import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A small pre-training core, exactly resumable: text to tokens, runs, branches, exports.",
)


class Dtype(StrEnum):
    """What weights are exported in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def main() -> None:
    """Run the command line; leaves with the exit code of the error, if any."""
    try:
        with leaving("error: "):
            app(prog_name="train")
    except ModuleNotFoundError as error:
        needed = {"torch", "tokenizers", "safetensors", "tomli_w", "datasets"}
        if (error.name or "").partition(".")[0] not in needed:
            raise
        note(f"error: {error.name} is not installed; training needs an extra: pip install 'stagewise[train]'")
        sys.exit(1)
    except ValueError as error:
        from data.errors import DataError

        if not isinstance(error, DataError):
            raise
        note(f"error: {error}")
        sys.exit(1)


@app.callback()
def _root() -> None:
    """A small pre-training core, exactly resumable: text to tokens, runs, branches, exports."""


@app.command("run")
def run_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    config: Config = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Instead: training tokens.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the model; see train sizes.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of tokens that train data wrote.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights and data order.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a model in a new folder.

    Without any text named it learns from what comes with Python: no download. Ctrl-C and SIGTERM end it with
    a checkpoint. Several processes: torchrun --nproc-per-node 2 -m train.cli run ...

    Example: [bold]train run -o runs/a --preset 0.3m --steps 300[/bold]
    """
    flags = {"steps": steps, "tokens": tokens, "model.preset": preset, "seed": seed}
    if data is not None:
        flags["data.folder"] = str(data.resolve())
    told = read(config, settings, flags)  # before torch is loaded: a typo shows at once

    from train.run import start

    with work("training") as progress:
        _say_outcome(start(output, told, progress=progress, say=say), as_json)


@app.command("resume")
def resume_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the run.")], as_json: Json = False
) -> None:
    """Go on with a run from its newest whole checkpoint, bit for bit.

    Example: [bold]train resume runs/a[/bold]
    """
    from train.run import resume

    with work("training") as progress:
        _say_outcome(resume(folder, progress=progress, say=say), as_json)


@app.command("anneal")
def anneal_command(
    checkpoint: Annotated[Path, typer.Argument(help="RUN/checkpoints/step-N")],
    steps: Annotated[int, typer.Option(min=1, help="In which the learning rate falls.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the branch.")],
    mixture: Annotated[
        list[str] | None,
        typer.Option(help="Other text from here on: maths=0.5, or with `until step N`. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Branch a run off at a checkpoint, and let the learning rate fall.

    Example: [bold]train anneal runs/a/checkpoints/step-000001000 --steps 200 -o runs/a-annealed[/bold]
    """
    from train.run import anneal

    weights = {name: value for name, value in map(setting, mixture or [])}
    with work("annealing") as progress:
        _say_outcome(anneal(checkpoint, steps, output, mixture=weights, progress=progress, say=say), as_json)


@app.command("data")
def data_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of tokens.")],
    config: Config = None,
    source: Sources = None,
    tokenizer: Annotated[str | None, typer.Option(help="Ids of a BPE to train, bytes, or a folder.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Make tokens of text: read, without duplicates and benchmark items, split, encoded.

    Example: [bold]train data --source prose=books/ --source embedded:code --tokenizer 8192 -o tokens/[/bold]
    """
    from train.text import tokens_of

    flags: dict[str, Any] = {"steps": 1, "data.tokenizer": tokenizer}
    if source:
        flags["data.sources"] = [source_of(one) for one in source]
    told = read(config, settings, flags)
    if told.data.folder is not None:
        raise UsageError("data: data.folder names tokens that are made already; leave it out")
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output}: is not empty; give another folder for the tokens")
    with work("reading") as progress:
        prepared = tokens_of(told.data, output, told.seed, progress)
    refused = {name: one["refused"] for name, one in prepared.record["domains"].items() if one["refused"]}
    if as_json:
        print_json(
            {"digest": prepared.digest, "domains": prepared.card.to_dict("records"), "refused": refused}
        )
        return
    _print_frame(prepared.card.drop(columns=["blank"]))
    for name, hits in refused.items():
        note(f"{name}: dropped for sharing 13 words with a benchmark item: " + _counts(hits))
    note(f"{output}: {prepared.tokenizer.size:,} ids; train on it with: train run --data {output}")


app.command("tokenizer")(tokenizer)
app.command("average")(average)
app.command("watch")(watch)
app.command("ladder")(ladder)
study.command("alarms")(alarms)
app.add_typer(study, name="study")


@app.command("sizes")
def sizes_command(
    vocab: Annotated[int, typer.Option(min=1, help="Ids of the tokenizer.")] = 8192,
    context: Annotated[int, typer.Option(min=2, help="Tokens of a row.")] = 256,
    tied: Annotated[bool, typer.Option(help="The head is the embedding.")] = True,
    mtp: Annotated[int, typer.Option(min=0, help="Depth of multi-token prediction.")] = 0,
    as_json: Json = False,
) -> None:
    """List the presets: weights, and FLOPs of training a token, counted and as 6N.

    Example: [bold]train sizes --vocab 32768 --context 1024[/bold]
    """
    from train.sizes import PRESETS, preset, size_of

    rows = []
    for name in PRESETS:
        shape = preset(name, vocab_size=vocab, context_length=context, tied=tied)
        size = size_of(shape, context, mtp)
        rows.append(
            {
                "preset": name, "layers": shape.layers, "width": shape.width, "heads": shape.heads,
                "params": size.params, "embedding_share": (size.embedding + size.head) / size.params,
                "mtp_params": size.mtp, "flops_per_token": size.training, "six_n": size.six_n,
                "counted_over_six_n": size.training / size.six_n,
            }
        )  # fmt: skip
    if as_json:
        print_json({"sizes": rows})
        return
    import pandas as pd

    _print_frame(pd.DataFrame(rows))


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="RUN, or RUN/checkpoints/step-N")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    dtype: Annotated[Dtype, typer.Option(help="Of the weights.")] = Dtype.float32,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a checkpoint as a Hugging Face folder (Qwen3 or Llama).

    transformers, lm_eval and evalsuite load it: evalsuite run --model exported/ --task 'skill_*' -o results/

    Example: [bold]train export runs/a -o exported/[/bold]
    """
    import torch

    from train.export import export
    from train.load import load

    loaded = load(checkpoint)
    path = export(loaded.plain(), loaded.tokenizer, output, dtype=getattr(torch, dtype.value), force=force)
    note(f"{path}: step {loaded.step}")


def _say_outcome(outcome: Outcome, as_json: bool) -> None:
    if int(os.environ.get("RANK", 0)):
        return
    losses = {name: {"bpb": one.bpb, "nats_per_token": one.nats} for name, one in outcome.losses.items()}
    if as_json:
        told = {
            name: getattr(outcome, name)
            for name in ("step", "steps", "stopped", "skipped", "tokens", "flops")
        }
        print_json(told | {"validation": losses})
        return
    rows = [(name, f"{one['bpb']:.4f}", f"{one['nats_per_token']:.4f}") for name, one in losses.items()]
    print_table(
        ("domain", "bits per byte", "nats per token"), rows, right=("bits per byte", "nats per token")
    )
    note(
        f"step {outcome.step:,} of {outcome.steps:,}, {outcome.tokens:,} tokens, {outcome.flops:.3g} FLOPs"
        + (f", {outcome.skipped} steps skipped" if outcome.skipped else "")
    )


def _print_frame(frame: Any) -> None:
    """A frame as a table: counts with commas, other numbers to three digits."""

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return value
        if float(value).is_integer() and abs(value) < 1e12:
            return f"{int(value):,}"
        return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.3e}"

    names = [str(name) for name in frame.columns]
    rows = [tuple(cell(value) for value in row) for row in frame.itertuples(index=False)]
    print_table(
        [name.replace("_", " ") for name in names], rows, right=[n.replace("_", " ") for n in names[1:]]
    )


def _counts(hits: dict[str, int]) -> str:
    return ", ".join(
        f"{name} {count}" for name, count in sorted(hits.items(), key=lambda one: (-one[1], one[0]))
    )


if __name__ == "__main__":
    main()

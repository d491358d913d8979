"""The command `train tokenizer`: vocabularies of several sizes, compared on one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli_files import PICTURES, check_suffix, write_picture
from scaling.console import note, print_json, print_table
from scaling.errors import UsageError
from scaling.options import Picture
from train.options import Config, Json, Sources, names_in, read, seeds_of, setting, source_of, work

if TYPE_CHECKING:
    from data.sieve import Refuse
    from train.tradeoff import Tradeoff

# Where neither the file nor the call says otherwise: small, so that it takes minutes.
_DEFAULTS = {"model.preset": "0.3m", "model.context": 128, "batch.rows": 4}
_TEXT = {"data.sources", "data.held_out", "data.overlap"}


def tokenizer(
    config: Config = None,
    vocab: Annotated[
        str,
        typer.Option(metavar="SIZES", help="Ids of each vocabulary; k is 1024, bytes an id for each byte."),
    ] = "512,2k,8k,32k",
    source: Sources = None,
    preset: Annotated[str | None, typer.Option(help="Of the short runs; 0.3m where absent.")] = None,
    context: Annotated[int | None, typer.Option(min=2, help="Tokens of a row; 128 where absent.")] = None,
    flops: Annotated[float | None, typer.Option(help="Of each short run; 1e12 where absent.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Instead: of the slowest run; all get the FLOPs it makes in that time."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="A short run for each, such as 0,1,2; 0 where absent."),
    ] = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Make the short runs.")] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Keep text, tokens and runs here; go on from there.")
    ] = None,
    picture: Picture = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Of the text or the short runs, such as optim.lr=1e-3. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare sizes of vocabulary: what they cost, and how well a small model learns with each.

    One text for all, and the same compute: a larger vocabulary has a dearer head, so it makes fewer steps,
    and each of them reads more bytes. Losses are bits per byte of the same held-out text.

    Example: [bold]train tokenizer --vocab 512,2k,8k --flops 1e12 --seeds 0,1,2 -o vocabularies/[/bold]
    """
    from train.short_runs import SECTIONS
    from train.tradeoff import tradeoff
    from train.vocabulary import parse_vocabulary

    check_suffix(picture, PICTURES)
    if not train and (flops, seconds, seeds) != (None, None, None):
        raise UsageError("--no-train: makes no runs, so that --flops, --seconds and --seeds mean nothing")
    asked, seeded = parse_vocabulary(vocab), None if seeds is None else seeds_of(seeds)
    used = {*_TEXT, *_DEFAULTS, "seed"}
    for name in dict(map(setting, settings or [])):
        if name not in used and name.partition(".")[0] not in SECTIONS:
            valid = f"{', '.join(sorted(used))}, and all of {', '.join(SECTIONS)}"
            raise UsageError(f"--set {name}: means nothing here; valid are {valid}")
    flags: dict[str, Any] = {"steps": 1, "model.preset": preset, "model.context": context}
    if source:
        flags["data.sources"] = [source_of(one) for one in source]
    told = read(config, settings, flags, _DEFAULTS)
    if told.data.folder is not None and not source:
        raise UsageError("data.folder names tokens that are made already, and text is needed: give --source")
    if config is not None:
        _say_unused(config, used, SECTIONS)
    of_runs = {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in asdict(getattr(told, section)).items()
        if value is not None and f"{section}.{name}" not in _DEFAULTS
    }
    with work("comparing") as progress:
        found = tradeoff(
            told.data.sources, asked, preset=told.model.preset, context=told.model.context,
            rows=told.batch.rows, settings=of_runs, flops=flops, seconds=seconds,
            seeds=seeded or (told.seed,), held_out=told.data.held_out,
            refuse=_no_benchmarks() if told.data.overlap else None, train=train, folder=output,
            progress=progress,
        )  # fmt: skip
    if picture is not None:
        write_picture(found.plot(), picture)
    notes = _notes(found)
    if as_json:
        tables = {
            name: getattr(found, name).to_dict("records") for name in ("vocabularies", "domains", "runs")
        }
        print_json({"flops": found.flops, **tables, "notes": notes})
    else:
        _print(found)
    for one in notes:
        note(one)
    if output is not None:
        note(f"{output}: keeps the text, the tokens and the runs")


def _no_benchmarks() -> Refuse:
    """What drops documents that share text with a benchmark item; its tables are built at the first one."""
    from functools import cache

    from train.text import benchmark_overlap

    overlap = cache(benchmark_overlap)
    return lambda document: overlap().refuse(document)


def _say_unused(config: Path, used: set[str], sections: Sequence[str]) -> None:
    """Say which settings of a file mean nothing to the short runs."""
    unused = [one for one in names_in(config) if one not in used and one.partition(".")[0] not in sections]
    if unused:
        note(f"{config}: not used here: {', '.join(unused)}")


def _notes(found: Tradeoff) -> list[str]:
    notes = list(found.notes)
    if "bpb" in found.vocabularies:
        notes.append(
            f"each run has {found.flops:.3g} FLOPs: this is how vocabularies rank at that compute; with more "
            "of it they may rank otherwise"
        )
        if found.runs["seed"].nunique() == 1:
            notes.append("one seed gives no spread: small differences may be chance; give --seeds 0,1,2")
    return notes


def _print(found: Tradeoff) -> None:
    """A row for each vocabulary. Without runs, domains are told by their bytes per token."""
    trained = "bpb" in found.vocabularies
    measure = "bpb" if trained else "bytes_per_token"
    spread = trained and found.runs["seed"].nunique() > 1
    domains = list(dict.fromkeys(found.domains["domain"]))
    rows = []
    for one in found.to_frame().to_dict("records"):
        row = {
            "vocabulary": str(one["vocabulary"]), "ids": f"{one['size']:,}",
            "bytes per token": f"{one['bytes_per_token']:.3f}",
            "words per token": f"{one['words_per_token']:.3f}",
            "embedding share": f"{one['embedding_share']:.1%}",
            "FLOPs per byte": f"{one['flops_per_byte']:.3g}",
        }  # fmt: skip
        if trained:
            row |= {"steps": f"{one['steps']:,}", "bpb": f"{one['bpb']:.4f}"}
        if spread:
            row["sd"] = f"{one['bpb_sd']:.4f}"
        for name in domains:
            title = f"bpb {name}" if trained else f"bytes per token of {name}"
            row[title] = f"{one[f'{measure}.{name}']:.{4 if trained else 3}f}"
        rows.append(row)
    columns = list(rows[0])
    print_table(columns, [tuple(row.values()) for row in rows], right=columns[1:])

"""The command `scaling`: from result files to windows, classes, clusters, pictures, and what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli_ahead import backtest, forecast
from scaling.cli_choose import decisions, effective, items, signal
from scaling.cli_files import PICTURES, check_suffix, load, write_rows
from scaling.cli_files import read as read_given
from scaling.console import Commands, note, print_json, print_table
from scaling.options import (
    DropBad,
    EarlyBy,
    Json,
    Kind,
    Metric,
    Points,
    PointsOption,
    Replicates,
    Rows,
    Scores,
    Seed,
    Source,
    StageOption,
    Task,
    Threshold,
)
from scaling.progress import progress_bar

# Everything heavy is imported inside the commands: --help answers at once.
if TYPE_CHECKING:
    from scaling.classes import Classification
    from scaling.scores import ScoreTable

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="At which training compute does a benchmark tell a better model from a worse one?",
)  # fmt: skip


@app.command()
def sources(as_json: Json = False) -> None:
    """List known public result sets, and the scores that come with the package.

    Example: scaling sources
    """
    from scaling.embedded import LADDER, LICENCE, TITLE, ladder_path
    from scaling.sources import list_sources

    found = list_sources()
    path = ladder_path()
    sizes = [path.stat().st_size] if path.is_file() else []
    if as_json:
        names = ("name", "title", "repository", "commit", "licence", "paths", "reference")
        print_json(
            {"sources": [
                {**{name: getattr(one, name) for name in names}, "files": len(one.files), "bytes": one.size}
                for one in found
             ],
             "embedded": [
                {"name": LADDER, "title": TITLE, "licence": LICENCE, "files": 1, "bytes": size}
                for size in sizes
             ]}
        )  # fmt: skip
        return
    columns = ("name", "files", "MB", "licence", "repository", "what")
    here = [(LADDER, "1", f"{size / 1e6:,.1f}", LICENCE, "comes with the package", TITLE) for size in sizes]
    rows = [
        (one.name, f"{len(one.files):,}", f"{one.size / 1e6:,.1f}", one.licence, one.repository, one.title)
        for one in found
    ]
    print_table(columns, here + rows, right=("files", "MB"))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Of a known result set, as `scaling sources` lists it.")],
    from_dir: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A local mirror, or an archive of it.")
    ] = None,
    into: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; default sources/NAME.")] = None,
) -> None:
    """Get a known result set, every file checked against its digest. Run it again to resume.

    Example: scaling fetch olmo_ladder --from mirror/
    """
    from scaling.sources import fetch as get

    with progress_bar("fetching") as step:
        done = get(name, source_dir=from_dir, into=into, progress=step)
    note(str(done))
    typer.echo(str(done.folder))


@app.command()
def read(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Result files, folders, archives; ladder, as everywhere."),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Parquet or CSV to write.")] = None,
    drop_bad: DropBad = False,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML that says how to read your own wide CSV.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read results of any known format into one validated table.

    Example: scaling read sources/pythia results/ -o scores.parquet
    """
    from scaling import report

    check_suffix(out)
    with progress_bar("reading") as step:
        table = read_given(paths, drop_bad, mapping=mapping, progress=step)
    if out is not None:
        table.write(out)
    if as_json:
        print_json(report.table_json(table))
    else:
        report.print_scores(table)
    if out is not None:
        note(f"written: {out}")


@app.command()
def classify(
    scores: Scores,
    stage: StageOption = None,
    early_by: EarlyBy = None,
    points: PointsOption = Points.auto,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    threshold: Threshold = 0.8,
    replicates: Replicates = 200,
    seed: Seed = 0,
    drop_bad: DropBad = False,
    as_json: Json = False,
    out: Rows = None,
) -> None:
    """Sort every (task, metric, shots) into early-signal, late-signal, saturated or noisy.

    Example: scaling classify scores.parquet --stage 1e19..1e21 --metric acc
    """
    from scaling import report

    check_suffix(out)
    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    found = _classified(table, stage, early_by, points, threshold, replicates, seed)
    if out is not None:
        write_rows(found.to_frame(), out)
    if as_json:
        print_json(report.classes_json(found))
    else:
        report.print_classes(found)


@app.command()
def clusters(
    scores: Scores,
    count: Annotated[
        int | None, typer.Option(help="Number of clusters; the most stable where absent.")
    ] = None,
    points: PointsOption = Points.auto,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    seed: Seed = 0,
    drop_bad: DropBad = False,
    as_json: Json = False,
) -> None:
    """Group tasks that rank models of like compute alike.

    Example: scaling clusters scores.parquet --metric bpb
    """
    from scaling import report
    from scaling.cluster import cluster_tasks

    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    curves = _curves(table, points, seed)
    found = cluster_tasks(curves, count=count, seed=seed)
    settings = {"count": count, "points": points.value, "seed": seed}
    if as_json:
        print_json(report.clusters_json(found, settings, curves.omissions))
    else:
        report.print_clusters(found, settings, curves.omissions)


@app.command()
def plot(
    scores: Scores,
    out: Annotated[Path, typer.Option("-o", "--out", help="PNG, SVG or PDF to write.")],
    kind: Annotated[
        Kind, typer.Option(help="windows takes --stage or --early-by, curve takes --task.")
    ] = Kind.windows,
    stage: StageOption = None,
    early_by: EarlyBy = None,
    points: PointsOption = Points.auto,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    threshold: Threshold = 0.8,
    replicates: Replicates = 200,
    seed: Seed = 0,
    drop_bad: DropBad = False,
) -> None:
    """Draw all windows on one compute axis, one curve or several, or the clusters.

    Example: scaling plot scores.parquet --stage 1e19..1e21 -o windows.png
    """
    from scaling.plot import plot_clusters, plot_curves, plot_windows, save

    check_suffix(out, PICTURES)
    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    if kind is Kind.windows:
        axes: Any = plot_windows(_classified(table, stage, early_by, points, threshold, replicates, seed))
    elif kind is Kind.curve:
        axes = plot_curves(_curves(table, points, seed), threshold=threshold)[0]
    else:
        from scaling.cluster import cluster_tasks

        axes = plot_clusters(cluster_tasks(_curves(table, points, seed), seed=seed))[0]
    save(axes, out)
    note(f"written: {out}")


def _classified(
    table: ScoreTable, stage: str | None, early_by: float | None, points: Points, threshold: float,
    replicates: int, seed: int,
) -> Classification:  # fmt: skip
    from scaling.classes import classify

    with progress_bar("fitting") as step:
        return classify(
            table, stage=stage, early_by=early_by, points=points.value, threshold=threshold,
            replicates=replicates, seed=seed, progress=step,
        )  # fmt: skip


def _curves(table: ScoreTable, points: Points, seed: int):
    from scaling.curves import fit_curves

    with progress_bar("fitting") as step:
        # Intervals come from leaving clusters out; what is asked here needs no bootstrap.
        return fit_curves(table, points=points.value, replicates=0, seed=seed, progress=step)


for command in (forecast, backtest, decisions, signal, effective, items):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

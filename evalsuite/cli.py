"""The command `evalsuite`: data on stdout, messages on stderr.

Exit codes: 0 done, 1 failed, 2 wrong call, 3 out of date (or, with `diff --exit-code`, different).
"""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.cli_report import report
from evalsuite.cli_results import compare, export, score
from evalsuite.cli_run import run, tasks
from evalsuite.display import print_json, print_table, say, show
from scaling.console import leaving
from scaling.errors import OutOfDate, UsageError
from scaling.options import Metric, Source, Task
from scaling.progress import progress_bar

if TYPE_CHECKING:
    from evalsuite.suite import Suite
    from scaling.scores import ScoreTable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Suites of benchmarks for the stages of a training run, built from scores.",
)


class Objective(StrEnum):
    """What the tasks of a suite are chosen for."""

    clusters = "clusters"
    decision_accuracy = "decision-accuracy"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run the command line; leaves with the exit code of the error, if any."""
    with leaving():
        app()


@app.callback()
def _root() -> None:
    """Suites of benchmarks for the stages of a training run, built from scores."""


@app.command("build")
def build_command(
    stage: Annotated[
        str, typer.Option(help="LO..HI in FLOPs, or a name: early, mid, late, or one of --settings.")
    ],
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            help="Results: parquet, CSV, or any file or folder a reader knows. Repeatable. ladder, also "
            "where absent, stands for the scores that come with the package (ladder:averaged, :raw, :all), "
            "./ladder for a file of that name.",
        ),
    ] = None,
    early_by: Annotated[
        float | None,
        typer.Option(
            help="FLOPs by which a window must be open to count as early (the stage's end where absent)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The suite file (stdout where absent).")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write no suite; exit 3 when the file differs.")
    ] = False,
    settings: Annotated[
        str | None,
        typer.Option(
            help="YAML: thresholds, named stages, overrides with reasons, a note. ladder, also where absent "
            "and all scores are the ladder's, stands for the settings that come with those."
        ),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="CSV of every candidate: kept or dropped, and why.")
    ] = None,
    held_out: Annotated[bool, typer.Option(help="Keep one task per cluster aside.")] = True,
    budget: Annotated[
        str | None, typer.Option(help="What one model may cost: 20% of all that qualifies, or tokens (5e6).")
    ] = None,
    objective: Annotated[
        Objective | None,
        typer.Option(help="What is chosen for: decision-accuracy with a budget, else clusters."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Under a budget, ask all items of a task or none.")
    ] = False,
    items_at: Annotated[
        Path | None, typer.Option("--items", help="Folder of task JSONL files: costs are measured there.")
    ] = None,
    only_runnable: Annotated[
        bool,
        typer.Option("--runnable", help="Only what `evalsuite run` can score with the items at hand."),
    ] = False,
    item_scores: Annotated[
        list[Path] | None,
        typer.Option(help="Per-item results (.npz): they choose items of a task asked in part. Repeatable."),
    ] = None,
    se: Annotated[
        float | None, typer.Option(help="Ask no more items than keep the score's standard error under this.")
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-families-out", help="Classify and select again without each family.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(help="Workers for that; -1 for all cores.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    replicates: Annotated[int, typer.Option(min=20, help="Bootstrap draws per curve.")] = 200,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Leave out bad rows, and count them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build the suite of a stage from scores, with the evidence for each task.

    Example: [bold]evalsuite build --scores scores.parquet --stage 1e19..1e21 -o suites/mid.yaml[/bold]

    Within a budget: [bold]evalsuite build --scores scores.parquet --stage mid --budget 20% -o mid.yaml[/bold]

    From the scores that come with the package: [bold]evalsuite build --stage early -o early.yaml[/bold]
    """
    from evalsuite.build import build
    from evalsuite.command import command_of, relative
    from evalsuite.economy import Budget
    from evalsuite.settings import PACKAGED, Settings, find_settings, find_stage
    from scaling.cli_files import load

    if check and output is None:
        raise UsageError("--check: say which file to check with -o FILE")
    if not scores:
        scores = list(PACKAGED)
        say("--scores: none given; taking ladder, the scores of small models that come with the package")
    if settings is None and all(one.partition(":")[0] in PACKAGED for one in scores):
        settings = PACKAGED[0]
        say("--settings: none given; taking ladder, with stages for those scores")
    chosen = find_settings(settings) if settings else Settings()
    find_stage(stage, chosen)  # what is no stage or no budget stops before minutes of reading
    limit = None if budget is None else Budget.parse(budget)
    text = _suite_text(output) if check and output else None
    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    measured, asked = _at_hand(items_at, item_scores, table)
    counts = None
    if only_runnable:
        from evalsuite.registry import Registry
        from evalsuite.runnable import runnable

        table, counts = runnable(table, Registry.open([items_at] if items_at else []))
    aim = None if objective is None else objective.value
    with progress_bar("fitting") as step:
        built = build(
            table, stage, early_by=early_by, settings=chosen, held_out=held_out, objective=aim, budget=limit,
            whole=whole, measured=measured, items=asked, se=se, at_hand=counts, stability=leave_out,
            seed=seed, replicates=replicates, jobs=jobs, progress=step,
        )  # fmt: skip
    command = command_of(
        scores, stage=stage, early_by=early_by, settings=settings and relative(settings), metric=metric,
        task=task, source=source, seed=seed or None,
        replicates=None if replicates == 200 else replicates, held_out=held_out, drop_bad=drop_bad,
        budget=budget, objective=aim, whole=whole, items=items_at, runnable=only_runnable,
        item_scores=item_scores, se=se, leave_families_out=leave_out,
    )  # fmt: skip
    if audit is not None:
        from scaling.files import replacing

        with replacing(audit) as part:
            built.audit.to_csv(part, index=False)
    _tell(built.audit, table, audit)
    if text is not None:
        _check(str(output), text, built.suite, command, as_json)
        return
    if output is not None:
        built.suite.write(output, command)
        say(f"{output}: written")
    if as_json:
        print_json(built.suite)
    elif output is not None:
        show(built.suite)
    else:
        print(built.suite.text(command), end="")


@app.command("show")
def show_command(
    suite: Annotated[Path, typer.Argument(help="A suite file.")],
    as_json: AsJson = False,
) -> None:
    """Print a suite, and warn when somebody edited it.

    Example: [bold]evalsuite show suites/mid.yaml[/bold]
    """
    from evalsuite.suite import Suite, edited

    text = _suite_text(suite)
    found = Suite.parse(text, str(suite))
    if why := edited(text):
        say(f"warning: {suite}: {why}; build it again, or find out with `evalsuite build ... --check`")
    if as_json:
        print_json(found)
    else:
        show(found)


@app.command("diff")
def diff_command(
    before: Annotated[Path, typer.Argument(help="A suite file.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 3 when they differ.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which task moved between two suites, and because of which figure.

    Example: [bold]evalsuite diff suites/mid.yaml new.yaml[/bold]
    """
    from evalsuite.difference import diff
    from evalsuite.suite import Suite

    found = diff(Suite.read(before), Suite.read(after))
    if as_json:
        moves = [vars(move) for move in found.moves]
        print_json({"context": found.context, "moves": moves, "unmoved": found.unmoved})
    else:
        for line in found.context:
            print(line)
        if found.moves:
            print_table(("task", "what", "before", "after", "because"), found.lines())
        print(f"{found.unmoved} task(s) keep their place")
    if exit_code and found:
        raise OutOfDate(f"{before} and {after} differ")


for _command in (tasks, run, score, compare, export, report):
    app.command()(_command)


# --- reading --------------------------------------------------------------------------------------


def _suite_text(path: Path) -> str:
    from evalsuite.documents import read_text

    return read_text(path, "suite")


def _at_hand(folder: Path | None, paths: list[Path] | None, table: ScoreTable):
    """Sizes of the items in a folder, and per-item results with their compute from the table."""
    measured, results = None, []
    if folder is not None:
        from evalsuite.cost import measure_items

        measured = measure_items(folder)
    for path in paths or ():
        from scaling.items import ItemScores

        results.append(ItemScores.read(path, table))
    return measured, results


# --- telling --------------------------------------------------------------------------------------


def _check(path: str, text: str, fresh: Suite, command: str, as_json: bool) -> None:
    from evalsuite.difference import check
    from evalsuite.suite import Suite

    told = check(path, text, fresh)
    if as_json:
        print_json({"suite": path, "follows": told is None, "difference": told})
    elif told:
        print(told)
    if told:
        raise OutOfDate(
            f"{path}: no longer follows from the scores; write it anew: {command} -o {shlex.quote(path)}"
        )
    then, now = Suite.parse(text, path).provenance.versions, fresh.provenance.versions
    other = [
        f"{name} {then.get(name)} then, {now.get(name)} now"
        for name in now
        if then.get(name) != now.get(name)
    ]
    say(f"{path}: follows from the scores" + (f" ({'; '.join(other)})" if other else ""))


def _tell(audit, table: ScoreTable, path: Path | None) -> None:
    for omission in table.omissions[:6]:
        say(f"left out: {omission.count:,} x {omission.what} ({omission.where})")
    if len(table.omissions) > 6:
        say(f"... and {len(table.omissions) - 6} more kinds of omission")
    counts = audit["decision"].value_counts()
    told = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("kept", "held-out", "dropped"))
    say(
        f"{table}: {len(audit)} candidates, {told}"
        + (f"; audit in {path}" if path else "; --audit lists them")
    )


if __name__ == "__main__":
    main()

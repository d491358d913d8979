"""`make demo`: scores -> curves -> classes -> suite -> report, on our own ladder, with the base install."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from scaling.errors import StagewiseError
from scaling.scores import ScoreTable

STAGE, SETTINGS = "mid", "ladder"
METRICS = ("acc", "bpb")
OUT = Path("out") / "demo"


def run(table: ScoreTable, stage: str = STAGE, out: Path = OUT, replicates: int = 200) -> None:
    """Classify, build the suite of a stage, draw, write the page; figures go to stdout, files to `out`.

    Args:
        table: the scores that `ladder` stands for; others in tests.
        stage: of the suite: a name of the ladder's settings, or LO..HI.
        out: folder for the suite, its audit, the pictures and the report.
        replicates: bootstrap draws per curve.

    Raises:
        StagewiseError: scores in which the stage has no suite.

    Example:
        >>> run(ladder())      # doctest: +SKIP
    """
    from evalsuite.build import build
    from evalsuite.display import show
    from evalsuite.report_page import page
    from evalsuite.report_scores import ScoreReport
    from evalsuite.settings import find_settings, find_stage
    from scaling.cluster import cluster_tasks
    from scaling.files import replacing
    from scaling.plot import plot_clusters, plot_windows, save
    from scaling.progress import progress_bar
    from scaling.report import print_classes

    print(table)
    settings = find_settings(SETTINGS)
    shown = table.where(table.frame["metric"].isin(METRICS), "another metric than the demo shows")
    with progress_bar("fitting") as step:
        built = build(
            shown, find_stage(stage, settings)[1], settings=settings, replicates=replicates, progress=step
        )
    found = built.classification
    print_classes(found)
    print()
    show(built.suite)
    asked = " ".join(f"--metric {metric}" for metric in METRICS)
    drawn = f" --replicates {replicates}" if replicates != 200 else ""
    told = f"--stage {stage} --settings {SETTINGS} {asked}{drawn}"
    built.suite.write(out / "suite.yaml", f"evalsuite build --scores ladder {told}")
    with replacing(out / "audit.csv") as part:
        built.audit.to_csv(part, index=False)
    save(plot_windows(found), out / "windows.png")
    keys = {item.key for item in (*built.suite.tasks, *built.suite.held_out)}
    chosen = replace(found.curves, curves=tuple(curve for curve in found.curves if curve.key in keys))
    pictures = ["windows.png"]
    if len(chosen) > 1:
        save(plot_clusters(cluster_tasks(chosen))[0], out / "clusters.png")
        pictures.append("clusters.png")
    report = ScoreReport.showing(
        table,
        shown,
        found,
        built.suite,
        name="ladder",
        command=f"evalsuite report ladder {told} -o report.html",
    )
    with replacing(out / "report.html") as part:
        part.write_text(page(scores=report), encoding="utf-8")
    print(f"\nwritten to {out}{os.sep}: {', '.join(['suite.yaml', 'audit.csv', *pictures, 'report.html'])}")


def main() -> int:
    """Run the demo.

    Returns:
        The exit code.
    """
    from scaling.embedded import ladder

    try:
        run(ladder())
    except StagewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

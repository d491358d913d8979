"""`make demo`: scores -> curves -> classes -> suite, on real results, with the base install."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from scaling.errors import StagewiseError

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "data" / "scores"  # the project's own measured scores, the default as soon as there are any
STAGE = "1e19..3e20"
SOURCE = "olmo_ladder"  # what stands in until then: small enough to be read and fitted in seconds
ARCHIVE = "olmo_ladder_190M-1B.tar.zst"
TIDY = "olmo_ladder_190M-1B.parquet"
OUT = Path("out") / "demo"


def find_scores() -> list[Path]:
    """Where the demo's scores are: ours, a fetched copy of `SOURCE`, its archive among the real inputs.

    Returns:
        Paths for `scaling.read_scores`; empty where there is nothing to read.
    """
    embedded = sorted(EMBEDDED.glob("*.parquet"))
    if embedded:
        return [Path(os.path.relpath(path)) for path in embedded]
    shared = ROOT / os.environ.get("STAGEWISE_SHARED", "../shared")
    for place in (Path("sources") / SOURCE, shared / "sources" / ARCHIVE, shared / "scores" / TIDY):
        if place.exists():
            return [Path(os.path.relpath(place))]
    return []


def run(paths: list[Path], stage: str = STAGE, out: Path = OUT, replicates: int = 200) -> None:
    """Read, classify, build the suite of a stage, draw; the figures go to stdout, the files to `out`.

    Args:
        paths: anything `scaling.read_scores` reads.
        stage: of the suite.
        out: folder for the suite, its audit and the pictures.
        replicates: bootstrap draws per curve.

    Raises:
        StagewiseError: scores that cannot be read, or in which the stage has no suite.

    Example:
        >>> run(find_scores())      # doctest: +SKIP
    """
    from evalsuite.build import build
    from evalsuite.display import show
    from scaling.cluster import cluster_tasks
    from scaling.files import replacing
    from scaling.plot import plot_clusters, plot_windows, save
    from scaling.progress import progress_bar
    from scaling.readers import read_scores
    from scaling.report import print_classes

    with progress_bar("reading") as step:
        table = read_scores(paths, progress=step)
    print(table)
    with progress_bar("fitting") as step:
        built = build(table, stage, replicates=replicates, progress=step)
    found = built.classification
    print_classes(found)
    print()
    show(built.suite)
    scores = " ".join(f"--scores {shlex.quote(str(path))}" for path in paths)
    drawn = f" --replicates {replicates}" if replicates != 200 else ""
    built.suite.write(out / "suite.yaml", f"evalsuite build {scores} --stage {stage}{drawn}")
    with replacing(out / "audit.csv") as part:
        built.audit.to_csv(part, index=False)
    save(plot_windows(found), out / "windows.png")
    keys = {item.key for item in (*built.suite.tasks, *built.suite.held_out)}
    chosen = replace(found.curves, curves=tuple(curve for curve in found.curves if curve.key in keys))
    pictures = ["windows.png"]
    if len(chosen) > 1:
        save(plot_clusters(cluster_tasks(chosen))[0], out / "clusters.png")
        pictures.append("clusters.png")
    print(f"\nwritten to {out}{os.sep}: {', '.join(['suite.yaml', 'audit.csv', *pictures])}")


def main() -> int:
    """Run the demo, or say how to get scores for it.

    Returns:
        The exit code.
    """
    paths = find_scores()
    if not paths:
        print(f"no scores here yet: get some with `scaling fetch {SOURCE}`, then run this again")
        return 0
    try:
        run(paths)
    except StagewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

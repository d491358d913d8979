"""The real score tables that studies and benchmarks measure on, where they are at hand."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from scaling.readers import read_scores
from scaling.scores import ScoreTable

ARCHIVES = {
    "olmo_ladder": "olmo_ladder_190M-1B.tar.zst",
    "openlm_scaling": "openlm_scaling.tar.zst",
    "pythia": "pythia_evals.tar.zst",
    "gemstones": "gemstones.tar.zst",
    "obsscaling": "obsscaling_eval_results.tar.zst",
    "sloth": "sloth_data.tar.zst",
}


def shared() -> Path:
    """Where the public result archives lie: `$STAGEWISE_SHARED`, else `../shared` beside the project."""
    return Path(os.environ.get("STAGEWISE_SHARED") or Path(__file__).parents[3] / "shared")


@cache
def scores(name: str) -> ScoreTable | None:
    """The table of one public source, read from its archive; None where the archive is absent."""
    path = shared() / "sources" / ARCHIVES[name]
    return read_scores([path], drop_bad=True) if path.is_file() else None


def missing(name: str) -> dict[str, str]:
    """The row a study prints in place of figures it cannot measure here."""
    return {"source": name, "skipped": f"{ARCHIVES[name]} not found under {shared()}/sources"}

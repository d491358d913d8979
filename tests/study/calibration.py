"""Decision probabilities on real pairs of runs about a factor two apart, each left out of its own curve."""

from __future__ import annotations

import pandas as pd

from scaling.calibration import calibrate
from scaling.curves import fit_curves
from tests.study.real import missing, scores

# Official Pythia suite only: interventions and precision repeats are not further runs of the recipe.
FAMILIES = {"pythia": ("pythia-v1", "pythia-v1-deduped")}


def run() -> pd.DataFrame:
    """One row per source and band of probability."""
    rows = []
    for name in ("olmo_ladder", "pythia", "openlm_scaling"):
        table = scores(name)
        if table is None:
            rows.append(pd.DataFrame([missing(name)]))
            continue
        frame = table.frame
        use = frame["metric"].isin(["acc", "acc_norm", "bpb"])
        if name in FAMILIES:
            use &= frame["family"].isin(FAMILIES[name]) & frame["variant"].isna()
        curves = fit_curves(table.where(use, "not in this study"), replicates=0)
        for match in (4.0, None):
            bands = calibrate(curves, match=match).to_frame()
            bands.insert(0, "source", name)
            bands.insert(1, "tokens_per_parameter", "within 4x" if match else "any")
            rows.append(bands)
    return pd.concat(rows, ignore_index=True)

"""Everything that could have been in a suite, as a table people can sort."""

from __future__ import annotations

import pandas as pd

from evalsuite.select import Selection

_FIGURES = (  # of a class, as the audit lists them
    "opens", "opens_low", "opens_high", "clears_chance", "opens_before_data", "extrapolated", "direction",
    "gain_per_doubling", "noise", "noise_kind", "noise_is_upper_bound", "snr", "trend_q", "law", "points",
    "n_points", "n_runs", "evidence",
)  # fmt: skip


def audit_of(selection: Selection) -> pd.DataFrame:
    """One row per candidate: what became of it, why, and its figures."""
    rows = []
    for item in selection.decisions:
        one, klass, p = item.candidate, item.candidate.klass, item.candidate.p
        row = {
            **item.key._asdict(), "decision": item.verdict, "reason": item.reason, "cluster": item.cluster,
            "weight": item.weight, "items": item.asked or one.items,
            "cost": item.cost.tokens if item.cost else None, "class": klass.klass if klass else None,
            **({f"p_{name}": value for name, value in p.model_dump().items()} if p else {}),
            "dp": one.dp, "covers": one.covers, "measured": one.measured, "closes": one.closes,
        }  # fmt: skip
        if klass:
            row |= {name: getattr(klass, name) for name in _FIGURES}
        rows.append(row)
    frame = pd.DataFrame(rows)
    for name in ("shots", "cluster", "items", "cost", "n_points", "n_runs"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    return frame

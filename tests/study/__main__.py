"""`make study`: what the statistics promise, measured on seeded simulations and on the real scores."""

from __future__ import annotations

from tests.measured import run_named
from tests.study import (
    calibration,
    coverage,
    decisions,
    false_alarms,
    forecast,
    items,
    ladder,
    latent,
    mtp,
    optimum,
    own,
    selection,
    small_models,
    trend,
)

STUDIES = {
    "trend": trend.run,
    "coverage": coverage.run,
    "optimum": optimum.run,
    "calibration": calibration.run,
    "clears-chance": small_models.run,
    "ladder": ladder.run,
    "forecast": forecast.run_backtests,
    "forecast-olmo": forecast.run_olmo_tasks,
    "forecast-coverage": forecast.run_coverage,
    "decisions": decisions.run,
    "selection": selection.run,
    "latent": latent.run,
    "items": items.run,
    "items-needed": items.run_needed,
    "items-windows": items.run_windows,
    "mtp": mtp.run,
    "false-alarms": false_alarms.run,
    "own-classes": own.run_classes,
    "own-onset": own.run_onset,
    "own-decisions": own.run_decisions,
    "own-noise": own.run_noise,
    "own-mtp": own.run_mtp,
}

if __name__ == "__main__":
    raise SystemExit(run_named("python -m tests.study", __doc__, STUDIES))

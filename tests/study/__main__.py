"""`make study`: what the statistics promise, measured on seeded simulations and on the real scores."""

from __future__ import annotations

from tests.measured import run_named
from tests.study import calibration, coverage, ladder, optimum, small_models, trend

STUDIES = {
    "trend": trend.run,
    "coverage": coverage.run,
    "optimum": optimum.run,
    "calibration": calibration.run,
    "clears-chance": small_models.run,
    "ladder": ladder.run,
}

if __name__ == "__main__":
    raise SystemExit(run_named("python -m tests.study", __doc__, STUDIES))

"""`make bench`: timings as ratios within one run, and how time and memory grow."""

from __future__ import annotations

from tests.bench import averaging, choosing, fits, growth, hook, overlap, reading, scoring, training
from tests.measured import run_named

BENCHMARKS = {
    "fits": fits.run,
    "reading": reading.run,
    "growth": growth.run,
    "choosing": choosing.run,
    "scoring": scoring.run,
    "harness": scoring.harness,
    "overlap": overlap.run,
    "training": training.run,
    "memory": training.memory,
    "target": training.target,
    "averaging": averaging.run,
    "hook": hook.run,
}

if __name__ == "__main__":
    raise SystemExit(run_named("python -m tests.bench", __doc__, BENCHMARKS))

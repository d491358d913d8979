"""`make study`: what the statistics promise, measured on seeded simulations and on the real scores.

python -m tests.study [NAME ...] runs all studies, or the named ones; --json prints one object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.study import calibration, coverage, ladder, optimum, small_models, trend

STUDIES = {
    "trend": trend.run,
    "coverage": coverage.run,
    "optimum": optimum.run,
    "calibration": calibration.run,
    "clears-chance": small_models.run,
    "ladder": ladder.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.study", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in STUDIES]
    if unknown:
        parser.error(f"no study {', '.join(unknown)}; valid are {', '.join(STUDIES)}")
    results = {}
    for name in options.names or STUDIES:
        started = time.perf_counter()
        frame = STUDIES[name]()
        results[name] = frame.to_dict("records")
        if not options.json:
            print(f"\n== {name} ({time.perf_counter() - started:.0f} s)")
            print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
        sys.stdout.flush()
    if options.json:
        print(json.dumps(results, default=str))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`make bench`: timings as ratios within one run, and how time and memory grow.

python -m tests.bench [NAME ...] runs all benchmarks, or the named ones; --json prints one object.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.bench import fits, growth, reading

BENCHMARKS = {"fits": fits.run, "reading": reading.run, "growth": growth.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; valid are {', '.join(BENCHMARKS)}")
    results = {}
    for name in options.names or BENCHMARKS:
        frame = BENCHMARKS[name]()
        results[name] = frame.to_dict("records")
        if not options.json:
            print(f"\n== {name}")
            print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
            sys.stdout.flush()
    if options.json:
        print(json.dumps(results, default=str))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Measurements run by name: what `tests.study` and `tests.bench` share."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping

import pandas as pd


def run_named(program: str, about: str | None, known: Mapping[str, Callable[[], pd.DataFrame]]) -> int:
    """Run the measurements named on the command line, or all, and print each as it is done.

    Args:
        program: what the help calls the command. about: its description. known: name -> measurement.
    """
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; valid are {', '.join(known)}")
    results = {}
    for name in options.names or known:
        started = time.perf_counter()
        frame = known[name]()
        results[name] = frame.to_dict("records")
        if not options.json:
            print(f"\n== {name} ({time.perf_counter() - started:.0f} s)")
            print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
            sys.stdout.flush()
    if options.json:
        print(json.dumps(results, default=str))
    return 0

"""`make notebooks`: run notebooks/*.py, and write the .ipynb beside each with its outputs."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.notebooks.pairs import execute, notebooks, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description=__doc__)
    parser.add_argument("numbers", nargs="*", help="such as 1 4; all of them where none is named")
    parser.add_argument("--small", action="store_true", help="with less of everything, as the tests do")
    parser.add_argument("-o", "--output", type=Path, help="another folder for the .ipynb")
    told = parser.parse_args()
    chosen = [path for path in notebooks() if not told.numbers or path.name.partition("_")[0] in told.numbers]
    if not chosen:
        parser.error(f"no such notebook; valid are {', '.join(path.name[0] for path in notebooks())}")
    for path in chosen:
        done = execute(path, small=told.small)
        target = (told.output or path.parent) / path.with_suffix(".ipynb").name
        write(done.notebook, target)
        print(f"{target.name}: {done.seconds:.0f} s, {target.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()

"""How fast training text is checked against every task at hand, and what of it holds questions."""

from __future__ import annotations

import io
import json
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from evalsuite.registry import Registry
from tests.study.real import shared
from train.overlap import Overlap


def corpus(path: Path) -> Iterator[tuple[str, str]]:
    """Where it comes from and text of each document of a JSONL file."""
    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            record = json.loads(line)
            yield record["source"], record["text"]


def standard_library() -> Iterator[tuple[str, str]]:
    """Python sources that came with this Python, tests among them."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            yield str(path.relative_to(root)), path.read_text(encoding="utf-8", errors="replace")


def run() -> pd.DataFrame:
    """MB per CPU second on one core, by file; documents with questions, by the task they hold most of."""
    if not (shared() / "tasks").is_dir():
        return pd.DataFrame([{"text": "all", "skipped": f"no tasks under {shared()}/tasks"}])
    registry = Registry.open([shared() / "tasks"])
    tasks = [registry.task(name) for name in registry.names()]
    started = time.process_time()
    made = Overlap.of(tasks)
    rows: list[dict[str, object]] = [
        {
            "text": f"(table of {len(tasks)} tasks: {len(made.hashes):,} keys, "
            f"{sum(made.untestable.values()):,} items untestable)",
            "cpu_seconds": time.process_time() - started,
        }
    ]
    texts = {path.name: corpus(path) for path in sorted((shared() / "corpus").glob("*.jsonl.zst"))}
    for name, documents in {**texts, "standard library": standard_library()}.items():
        size, spent, number, hit, where = 0, 0.0, 0, Counter[str](), []
        for source, text in documents:
            started = time.process_time()
            task = made.hit(text)
            spent += time.process_time() - started
            size += len(text.encode())
            number += 1
            if task is not None:
                hit[task] += 1
                where.append(source)
        rows.append(
            {
                "text": name, "documents": number, "mb": size / 1e6, "cpu_seconds": spent,
                "mb_per_second": size / 1e6 / spent, "hit": sum(hit.values()),
                "tasks": ", ".join(f"{task} {count}" for task, count in hit.most_common()),
                "where": "; ".join(where[:3]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)

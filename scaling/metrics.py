"""What a metric measures: its family, its range and which way is better."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Family = Literal["proportion", "bits", "loss", "other"]


@dataclass(frozen=True)
class MetricInfo:
    """Facts about one metric.

    Attributes:
        name: as it stands in the `metric` column.
        family: `proportion` (bounded, fitted with a sigmoid), `bits` and `loss` (fitted with a power
            law), `other` (kept and listed, never fitted).
        low, high: the range a score may take, ends included.
        higher_is_better: the direction; None where neither end is better.
        unit: of a score.
        reference: where the definition stands.

    Example:
        >>> metric_info("acc").family, metric_info("bpb").higher_is_better
        ('proportion', False)
    """

    name: str
    family: Family = "other"
    low: float = -math.inf
    high: float = math.inf
    higher_is_better: bool | None = None
    unit: str = ""
    reference: str = ""

    @property
    def fitted(self) -> bool:
        """Whether curves are fitted to this metric."""
        return self.family != "other"


@cache
def _table() -> dict[str, MetricInfo]:
    text = (files("scaling") / "facts" / "metrics.csv").read_text(encoding="utf-8")
    return {
        row["metric"]: MetricInfo(
            name=row["metric"],
            family=row["family"],  # pyright: ignore[reportArgumentType]
            low=float(row["low"]),
            high=float(row["high"]),
            higher_is_better={"true": True, "false": False}.get(row["higher_is_better"]),
            unit=row["unit"],
            reference=row["reference"],
        )
        for row in csv.DictReader(text.splitlines())
    }


def metric_info(name: str) -> MetricInfo:
    """Facts about the metric `name`; one that the table does not know is of family `other`.

    Example:
        >>> metric_info("never_heard_of_it").fitted
        False
    """
    return _table().get(name) or MetricInfo(name)


def known_metrics() -> tuple[str, ...]:
    """The names that `scaling/facts/metrics.csv` describes."""
    return tuple(_table())

"""The class of one task, with the figures and the line of evidence behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from scaling.curves import Curve
from scaling.laws import Array
from scaling.noise import scale_of
from scaling.series import Key
from scaling.windows import DOUBLING, Windows, noise_at

if TYPE_CHECKING:
    from scaling.classes import Settings

Class = Literal["early-signal", "late-signal", "saturated", "noisy", "undetermined"]
CLASSES: tuple[Class, ...] = ("early-signal", "late-signal", "saturated", "noisy")


@dataclass(frozen=True)
class TaskClass:
    """The class of one (task, metric, shots), with its evidence.

    FLOPs are NaN where a window does not exist, inf where its end lies beyond what was looked at.
    """

    task: str
    metric: str
    shots: int | None
    klass: Class
    p_early_signal: float
    p_late_signal: float
    p_saturated: float
    p_noisy: float
    opens: float
    opens_low: float
    opens_high: float
    closes: float
    closes_low: float
    closes_high: float
    clears_chance: float
    clears_chance_low: float
    clears_chance_high: float
    opens_before_data: bool
    extrapolated: bool
    direction: Literal["improves", "inverse", "flat"]
    gain_per_doubling: float
    decision_probability: float
    noise: float
    noise_kind: str
    noise_is_upper_bound: bool
    snr: float
    trend_q: float
    law: str
    points: str
    n_points: int
    n_runs: int
    evidence: str

    @property
    def key(self) -> Key:
        return Key(self.task, self.metric, self.shots)


def task_class(
    curve: Curve, settings: Settings, windows: Windows, klass: Class, shares: Array, why: str
) -> TaskClass:
    """Put the figures of one curve and its class together.

    Args:
        curve, settings, windows: what was asked and found. klass: the class.
        shares: probability of each of `CLASSES`.
        why: what made the class undetermined, "" otherwise.
    """
    series, noise = curve.series, curve.noise
    low, high = curve.span
    asked = float(np.clip(np.log10(settings.asked_at), low, high))
    step = curve.values(np.array([asked, asked + DOUBLING]))[0]
    gain = float(series.sign * (step[1] - step[0]))
    nearest = int(np.argmin(np.abs(windows.x - asked)))
    finals = series.y[series.final] if series.final.any() else series.y
    base = noise.checkpoint if np.isfinite(noise.checkpoint) else noise.total
    base = base * float(scale_of(series.metric.family, np.median(finals)))
    opens, closes = windows.opens[0], windows.closes[0]
    entry = {
        "opens": opens,
        "closes": closes,
        "clears_chance": windows.clears[0],
        **_quantiles("opens", windows.opens, curve),
        **_quantiles("closes", windows.closes, curve),
        **_quantiles("clears_chance", windows.clears, curve),
    }
    slope = curve.trend.direction * series.sign
    significant = curve.trend_q <= settings.level
    direction = "flat" if not significant else ("improves" if slope > 0 else "inverse")
    return TaskClass(
        task=series.key.task, metric=series.key.metric, shots=series.key.shots, klass=klass,
        p_early_signal=float(shares[0]), p_late_signal=float(shares[1]),
        p_saturated=float(shares[2]), p_noisy=float(shares[3]),
        **{name: float(10.0**value) for name, value in entry.items()},
        opens_before_data=bool(opens <= low + 1e-9),
        extrapolated=bool(opens > high),
        direction=direction,
        gain_per_doubling=gain,
        decision_probability=float(windows.probability[0, nearest]),
        noise=float(noise_at(curve, step[:1])[0]), noise_kind=noise.kind,
        noise_is_upper_bound=noise.upper_bound,
        snr=float(np.ptp(finals) / base) if base > 0 else float("nan"),
        trend_q=curve.trend_q, law=curve.law, points=series.points,
        n_points=len(series.x), n_runs=len(np.unique(series.run)),
        evidence=_evidence(curve, windows, gain, direction != "flat", why, 10**asked),
    )  # fmt: skip


def _quantiles(name: str, values: Array, curve: Curve) -> dict[str, float]:
    """95% percentile interval over the bootstrap draws, a missing end counted as beyond everything."""
    drawn = values[1 + curve.series.n_clusters :]
    if not curve.identified or not len(drawn):
        return {f"{name}_low": np.nan, f"{name}_high": np.nan}
    ordered = np.where(np.isnan(drawn), np.inf, drawn)
    low, high = np.quantile(ordered, [0.025, 0.975], method="nearest")
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _evidence(curve: Curve, windows: Windows, gain: float, trend_shown: bool, why: str, at: float) -> str:
    noise = curve.noise
    opens, closes = windows.opens[0], windows.closes[0]
    if np.isnan(opens):
        window = "no window"
    else:
        low, high = curve.span
        left = "before the data" if opens <= low + 1e-9 else f"{10**opens:.2g}"
        right = (
            "close not identified" if not np.isfinite(closes) or closes > high else f"closes {10**closes:.2g}"
        )
        window = f"opens {left}, {right}"
    level = curve.values(np.array([np.log10(at)]))[0]
    bound = "at most " if noise.upper_bound else ""
    parts = [
        window,
        f"gain {gain:.2g} per doubling at {at:.2g}",
        f"noise {bound}{noise_at(curve, level)[0]:.2g} ({noise.kind})",
        f"trend q={curve.trend_q:.2g}" + ("" if trend_shown else ", none shown"),
        f"{curve.series.n_clusters} clusters",
    ]
    if curve.trend.direction * curve.series.sign < 0 and trend_shown:
        parts.append("inverse scaling")
    if curve.free_floor:
        parts.append("floor fitted, not at chance")
    return "; ".join([why, *parts] if why else parts)

"""How much of the anneal's gain means of snapshots recover: figures, intervals, tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from scaling.errors import StagewiseError
from scaling.laws import Array
from train.studies.blends import Blend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWS = 1000
ALL = "all"  # the mean over domains
_SEED = 0
_NEAR = 0.05  # of the anneal's gain


@dataclass(frozen=True)
class Measured:
    """What was measured at one point of the run of one seed.

    Attributes:
        seed: of the run. point: its steps so far. after: steps of the branch.
        step_flops: of training, for a step. snapshot_bytes: of the weights in a snapshot.
        domain, bytes: of each row of held-out text. blends: what was measured.
        bits: of each of them, the bits of each row. scores: of each, metrics by task; empty where not asked.
    """

    seed: int
    point: int
    after: int
    step_flops: float
    snapshot_bytes: int
    domain: Sequence[str]
    bytes: Sequence[int]
    blends: Sequence[Blend]
    bits: Sequence[Sequence[float]] = field(repr=False)
    scores: Sequence[Mapping[str, Mapping[str, float]]] = field(repr=False)

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Measured:
        """From its fields as JSON has them."""
        found = []
        for one in told["blends"]:
            shares = {int(step): share for step, share in one["shares"].items()}
            found.append(Blend(**{**one, "shares": shares}))
        return cls(**{**told, "blends": tuple(found)})


@dataclass(frozen=True, eq=False)
class Recovery:
    """What the study found.

    share = (raw - mean) / (raw - annealed), in bits per byte, the mean over domains unless a domain is named.
    `low`..`high` is the interval of a t test over seeds (NaN of one), `rows_low`..`rows_high` of a bootstrap
    of the rows of held-out text within domains, the same rows for all weights, seeds as they are.

    Attributes:
        points: a row for each point: `step`; losses `raw`, `default`, `annealed`, `later`, `later_default`,
            the means over seeds; `share` of the default with both intervals; `later_share`, of the default at
            the end of the anneal's tokens; `margin`, by how much the default is below the best snapshot in
            it, with its interval over seeds, and `below`, seeds in which it is; `span` of the default;
            `anneal_flops`, and `anneal_share` of those so far; `read_bytes` of the default.
        sweep: a row for each way to average: `kind`, `n`, `span`, `weights`, `share` (over points and seeds),
            `low`, `high`, `worst` (lowest of any point and seed), and the share at each point, `at_<step>`.
        domains: a row for each point and domain: `raw`, `default`, `annealed`, `share`, `low`, `high`.
        scores: a row for each point, task (and all of them) and metric: `raw`, `default`, `annealed`,
            `later`, `later_default`; `gain` of the default over raw and of the anneal, `annealed_gain`, with
            intervals.
        losses: a row for each seed, point, way and domain: `spacing`, `bpb`, `share`.
        level: of the intervals.
    """

    points: pd.DataFrame
    sweep: pd.DataFrame = field(repr=False)
    domains: pd.DataFrame = field(repr=False)
    scores: pd.DataFrame = field(repr=False)
    losses: pd.DataFrame = field(repr=False)
    level: float = 0.95

    @classmethod
    def of(cls, measured: Sequence[Measured], level: float = 0.95) -> Recovery:
        """Put what was measured together.

        Raises:
            StagewiseError: nothing was measured.
        """
        if not measured:
            raise StagewiseError("recovery: nothing was measured")
        losses = pd.concat([_losses(one) for one in measured], ignore_index=True)
        return cls(
            _points(measured, losses, level), _sweep(losses, level), _domains(losses, level),
            _scores(measured, level), losses, level,
        )  # fmt: skip

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All of them, by name."""
        names = ("points", "sweep", "domains", "scores", "losses")
        return {name: getattr(self, name) for name in names}

    @property
    def notes(self) -> tuple[str, ...]:
        """The best span of each number of snapshots, and how far others are from it anywhere."""
        rows = self.losses[(self.losses["domain"] == ALL) & (self.losses["kind"] == "mean")]
        told = []
        for n, part in rows[rows["weights"] == "uniform"].groupby("n"):
            wide = part.pivot(index=["seed", "step"], columns="span", values="share").dropna(axis=1)
            if not len(wide.columns):
                continue
            behind = wide.rsub(wide.max(axis=1), axis=0).max()
            near = ", ".join(f"{one:.0%}" for one in behind[behind <= _NEAR].index) or "none"
            told.append(
                f"{n} snapshots: best over {wide.mean().idxmax():.0%} of the steps so far "
                f"({wide.mean().max():.2f}); never more than {_NEAR} behind the best span: {near}"
            )
        return tuple(told)

    def to_frame(self) -> pd.DataFrame:
        """The sweep."""
        return self.sweep

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share recovered over the span, a line for each number of snapshots (uniform weights).

        Bars reach from the lowest to the highest point of the run.

        Args:
            ax: where to draw; a new figure where absent.
        """
        from scaling.plot.canvas import MUTED, new_axes, plain

        ax = ax or new_axes(6.4, 4.0)
        ways = self.sweep[(self.sweep["kind"] == "mean") & (self.sweep["weights"] == "uniform")]
        at = [name for name in ways if str(name).startswith("at_")]
        for n, rows in ways.groupby("n"):
            x, y, each = rows["span"].to_numpy(), rows["share"].to_numpy(), rows[at].to_numpy()
            error = np.abs(np.stack([np.nanmin(each, axis=1), np.nanmax(each, axis=1)]) - y)
            ax.errorbar(x, y, yerr=error, marker="o", ms=4, capsize=2, lw=1.4, label=f"{n} snapshots")
        ax.axhline(1.0, color=MUTED, lw=0.8)
        ax.set_xscale("log")
        spans = sorted(set(ways["span"]))
        ax.set_xticks(spans, [f"{one:.0%}" for one in spans])
        ax.minorticks_off()
        ax.set_xlabel("span of the snapshots, of the steps so far")
        ax.set_ylabel("share of the anneal's gain recovered")
        plain(ax)
        ax.legend(frameon=False, fontsize=8)
        return ax

    def _repr_html_(self) -> str:
        return self.points.to_html(index=False) + self.sweep.to_html(index=False)


def interval(values: Sequence[float] | Array, level: float) -> tuple[float, float]:
    """The t interval of a mean; NaN of a single value.

    Example:
        >>> interval([1.0, 2.0, 3.0], 0.95)
        (-0.4841377117503573, 4.484137711750357)
    """
    each = np.asarray(values, dtype=float)
    n = len(each)
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(each.std(ddof=1)) / math.sqrt(n)
    return float(each.mean()) - half, float(each.mean()) + half


def _losses(one: Measured) -> pd.DataFrame:
    """Bits per byte of everything measured at a point, by domain."""
    domain, size = np.asarray(one.domain), np.asarray(one.bytes, dtype=float)
    rows = []
    for blend, bits in zip(one.blends, np.asarray(one.bits), strict=True):
        steps = sorted(blend.shares)
        keys = {
            "seed": one.seed, "step": one.point, "kind": blend.kind, "n": blend.n, "span": blend.span,
            "weights": blend.weights, "spacing": steps[1] - steps[0] if len(steps) > 1 else 0,
        }  # fmt: skip
        each = {name: _bpb(bits, size, domain == name) for name in dict.fromkeys(one.domain)}
        each[ALL] = float(np.mean(list(each.values())))
        rows += [keys | {"domain": name, "bpb": value} for name, value in each.items()]
    frame = pd.DataFrame(rows)
    ends = [frame[frame["kind"] == kind].set_index("domain")["bpb"] for kind in ("raw", "annealed")]
    raw, annealed = (frame["domain"].map(end) for end in ends)
    return frame.assign(share=(raw - frame["bpb"]) / (raw - annealed))


def _bpb(bits: Array, size: Array, mine: np.ndarray) -> float:
    return float(bits[mine].sum() / size[mine].sum())


def _points(measured: Sequence[Measured], losses: pd.DataFrame, level: float) -> pd.DataFrame:
    every = losses[losses["domain"] == ALL]
    rows = []
    for step, part in every.groupby("step"):
        mine = [one for one in measured if one.point == step]
        wide = part[part["kind"].isin(_KINDS)].pivot(index="seed", columns="kind", values="bpb")
        share = part[part["kind"] == "default"]["share"].to_numpy()
        best = part[part["kind"].isin(("raw", "member"))].groupby("seed")["bpb"].min()
        margin = (best - wide["default"]).to_numpy()
        later = part[part["kind"] == "later default"]["share"].to_numpy()
        first = mine[0]
        steps = next(sorted(one.shares) for one in first.blends if one.kind == "default")
        anneal = first.after * first.step_flops
        row: dict[str, Any] = {"step": step, "span": (steps[-1] - steps[0]) / first.point}
        row |= {kind.replace(" ", "_"): wide[kind].mean() for kind in _KINDS}
        row |= {"share": share.mean()} | _ends("", interval(share, level))
        row |= _ends("rows_", _bootstrapped(mine, level)) | {"later_share": later.mean()}
        row |= {"margin": margin.mean()} | _ends("margin_", interval(margin, level))
        row |= {
            "below": int((margin > 0).sum()), "seeds": len(margin), "anneal_steps": first.after,
            "anneal_flops": anneal, "anneal_share": first.after / first.point, "default_flops": 0.0,
            "read_bytes": len(steps) * first.snapshot_bytes,
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


_KINDS = ("raw", "default", "annealed", "later", "later default")


def _bootstrapped(mine: Sequence[Measured], level: float) -> tuple[float, float]:
    """The interval of the default's share, the mean over seeds, over draws of rows of held-out text."""
    rng = np.random.default_rng(_SEED)
    domain, size = np.asarray(mine[0].domain), np.asarray(mine[0].bytes, dtype=float)
    bits = np.stack([[_bits_of(one, kind) for kind in ("raw", "default", "annealed")] for one in mine])
    bpb = np.zeros((DRAWS, *bits.shape[:2]))
    names = list(dict.fromkeys(mine[0].domain))
    for name in names:
        at = np.flatnonzero((domain == name) & (size > 0))
        counts = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), size=DRAWS)
        drawn = np.einsum("dr,skr->dsk", counts, bits[..., at])
        bpb += drawn / (counts @ size[at])[:, None, None] / len(names)
    share = ((bpb[..., 0] - bpb[..., 1]) / (bpb[..., 0] - bpb[..., 2])).mean(axis=1)
    low, high = np.quantile(share, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _bits_of(one: Measured, kind: str) -> Array:
    i = next(i for i, blend in enumerate(one.blends) if blend.kind == kind)
    return np.asarray(one.bits[i], dtype=float)


def _sweep(losses: pd.DataFrame, level: float) -> pd.DataFrame:
    ways = losses[(losses["domain"] == ALL) & losses["kind"].isin(("default", "mean", "running"))]
    rows = []
    for key, part in ways.groupby(["kind", "n", "span", "weights"], sort=False):
        by_seed = part.groupby("seed")["share"].mean().to_numpy()
        row = dict(zip(("kind", "n", "span", "weights"), key, strict=True))  # pyright: ignore[reportArgumentType]
        row |= {"share": by_seed.mean()} | _ends("", interval(by_seed, level))
        row["worst"] = part["share"].min()
        at = part.groupby("step")["share"].mean()
        rows.append(row | {f"at_{step}": value for step, value in at.items()})
    frame = pd.DataFrame(rows).sort_values(["kind", "n", "span"], kind="stable", ignore_index=True)
    at = [f"at_{step}" for step in sorted(set(ways["step"]))]
    frame = frame[[*(name for name in frame if name not in at), *at]]
    # What the grid cannot give at every point is no mean over the points.
    frame.loc[frame[at].isna().any(axis=1), ["share", "low", "high"]] = math.nan
    return frame


def _domains(losses: pd.DataFrame, level: float) -> pd.DataFrame:
    rows = []
    for (step, name), part in losses[losses["domain"] != ALL].groupby(["step", "domain"], sort=False):
        mean = part.groupby("kind")["bpb"].mean()
        share = part[part["kind"] == "default"]["share"].to_numpy()
        row = {"step": step, "domain": name} | {kind: mean[kind] for kind in ("raw", "default", "annealed")}
        rows.append(row | {"share": share.mean()} | _ends("", interval(share, level)))
    return pd.DataFrame(rows)


def _scores(measured: Sequence[Measured], level: float) -> pd.DataFrame:
    """Scores of tasks, and their mean over tasks."""
    flat = []
    for one in measured:
        for blend, scores in zip(one.blends, one.scores, strict=True):
            table = pd.DataFrame(scores).T
            for metric in table:
                each = table[metric].dropna()
                of = {"step": one.point, "metric": metric, "seed": one.seed, "kind": blend.kind}
                flat.append(of | {"task": ALL, "score": each.mean()})
                flat += [of | {"task": task, "score": score} for task, score in each.items()]
    if not flat:
        return pd.DataFrame()
    rows = []
    for (step, task, metric), part in pd.DataFrame(flat).groupby(["step", "task", "metric"], sort=False):
        wide = part.pivot(index="seed", columns="kind", values="score")
        row: dict[str, Any] = {"step": step, "task": task, "metric": metric}
        row |= {kind.replace(" ", "_"): wide[kind].mean() for kind in _KINDS}
        for name, kind in (("gain", "default"), ("annealed_gain", "annealed")):
            # Fewer bits are better.
            gain = ((wide[kind] - wide["raw"]) * (-1 if metric == "bpb" else 1)).to_numpy()
            row |= {name: gain.mean()} | _ends(f"{name}_", interval(gain, level))
        rows.append(row)
    return pd.DataFrame(rows)


def _ends(prefix: str, found: tuple[float, float]) -> dict[str, float]:
    return {f"{prefix}low": found[0], f"{prefix}high": found[1]}

"""How often are alarms false, and how soon are losses found? Simulated runs with the shape of real ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from evalsuite.alarms import MARGIN, RATE
from evalsuite.expectation import expected
from evalsuite.sequential import EXPONENTS, fall_evidence, law
from scaling.laws import Array
from scaling.metrics import metric_info
from tests.study.real import shared

SOURCES = ("pythia", "gemstones", "olmo_ladder_190M-1B")
KINDS = {"proportion": "proportions", "bits": "bits and losses", "loss": "bits and losses"}  # by family
EARLIEST = 0.03  # share of a run before which checkpoints are no part of its series
SHORTEST = 12  # evaluations of a real series
COLUMNS = ["model", "variant", "checkpoint_step", "flops", "task", "metric", "num_fewshot", "score", "chance"]


@dataclass(frozen=True)
class Setting:
    """Size of the study.

    Attributes:
        runs: simulated without a loss in every scenario. losses: runs with each loss.
        capabilities: of a run. evaluations: that share no snapshot.
        profiles: real series a scenario draws its shapes from, at most. bands: runs whose bands are checked.
        sources: of real series.
    """

    runs: int = 1000
    losses: int = 200
    capabilities: int = 4
    evaluations: int = 24
    profiles: int = 200
    bands: int = 20
    sources: tuple[str, ...] = SOURCES


SMOKE = Setting(runs=20, losses=10, profiles=10, bands=2, sources=("gemstones",))


@dataclass(frozen=True)
class Profile:
    """What a series looks like: growth `slope * h_exponent(ln(share / first))` and the noise around it.

    Attributes:
        sd: of the noise at the end. early: how many times that at the start. correlation: of neighbours.
        df: degrees of freedom of its t distribution; infinity for the normal one.
        sigmoid: growth is a sigmoid of that slope at a third of the run instead.
    """

    slope: float
    exponent: float
    sd: float
    early: float = 1.0
    correlation: float = 0.0
    df: float = np.inf
    sigmoid: bool = False

    def growth(self, z: Array) -> Array:
        """At ln(compute) z from the first evaluation, [n]."""
        if self.sigmoid:
            return self.slope / (1.0 + np.exp(-2.2 * (z - z[-1] + np.log(3.0))))
        return self.slope * law(z, self.exponent)

    def noise(self, z: Array, rng: np.random.Generator, count: int) -> Array:
        """Autoregressive noise, [count, n]."""
        shape = (count, len(z))
        fresh = rng.standard_normal(shape)
        if np.isfinite(self.df):
            fresh = rng.standard_t(self.df, shape) / np.sqrt(self.df / (self.df - 2.0))
        made = fresh.copy()
        for i in range(1, len(z)):
            made[:, i] = self.correlation * made[:, i - 1] + np.sqrt(1 - self.correlation**2) * fresh[:, i]
        return made * self.sd * self.early ** (1.0 - z / z[-1])


@dataclass(frozen=True)
class Real:
    """A series of a real run: what it looks like, ln(compute) and score, [n] each."""

    profile: Profile
    x: Array
    y: Array


STRESSED = {
    "flat": Profile(0.0, 0.0, 0.01),
    "law, little noise": Profile(0.2, 0.35, 0.005),
    "law, much noise": Profile(0.1, 0.0, 0.03),
    "law, early noise x5": Profile(0.2, 0.35, 0.01, early=5.0),
    "law, t noise (4 df)": Profile(0.2, 0.35, 0.01, df=4.0),
    "law, correlation 0.3": Profile(0.2, 0.35, 0.01, correlation=0.3),
    "flat, correlation 0.3": Profile(0.0, 0.0, 0.01, correlation=0.3),
    "flat, correlation 0.6": Profile(0.0, 0.0, 0.01, correlation=0.6),
    "sigmoid that saturates": Profile(0.6, 0.0, 0.01, sigmoid=True),
}
LOST = {"bits, little noise": Profile(0.15, 0.35, 0.006), "share of answers": Profile(0.1, 0.0, 0.012)}
HALF = 0.5


def run(seed: int = 0, setting: Setting | None = None) -> pd.DataFrame:
    """False alarms of control runs, then what becomes of planted losses.

    Every run has some capabilities, tested together at a rate of 5% a run. Control scenarios are "source,
    kind" (each series has the growth, size, early excess and correlation of the noise of a real series of
    that source, drawn anew) and profiles that strain the assumptions. Losses begin at half the run; `sd` is
    the noise of an evaluation:

    - "at once, 5 sd": from then on lower by that; growth goes on.
    - "stop": nothing more is learned.
    - "forgetting 5%": bits rise by 5% (the score falls by 0.05) over a tenth of the run, and stay.

    Args:
        seed: of all draws. setting: size of the study.

    Returns:
        Rows of three kinds. Real: series of real runs as they are, each tested alone at 5%; `alarms` is the
        share of them. Controls: `alarms` is the share of runs with any false alarm, `low`..`high` its 95%
        interval (Clopper and Pearson), `held` whether a rate of 5% is inside or above it, `inside` the share
        of evaluations within the expected 95% band. Losses: `alarms` is the share of runs whose alarm for
        the capability came after the loss, `delay` the median number of evaluations until then, `of_run` the
        same as share of the run; NaN where fewer than half were found. `sd` is that of the noise of an
        evaluation (median of the series), `correlation` that of neighbours.
    """
    setting = setting or Setting()
    rng = np.random.default_rng(seed)
    share = np.arange(1, setting.evaluations + 1) / setting.evaluations
    real = {
        f"{source.split('_')[0]}, {kind}": found
        for source in setting.sources
        for kind, found in measured(source, setting.profiles, rng).items()
    }
    rows = [_as_they_are(name, found) for name, found in real.items()]
    profiles = {name: [one.profile for one in found] for name, found in real.items()}
    profiles |= {name: [one] for name, one in STRESSED.items()}
    rows += [_control(name, found, share, setting, rng) for name, found in profiles.items()]
    for when in (share, share[1::2]):
        for name, profile in LOST.items():
            rows += [_loss(name, profile, what, when, setting, rng) for what in _losses(when, profile)]
    return pd.DataFrame(rows)


def measured(source: str, most: int, rng: np.random.Generator) -> dict[str, list[Real]]:
    """So many real series of a source, by kind; empty where its table is absent.

    A series is a run's checkpoints from 3% of its compute on, thinned to 24; its law is the best of the
    exponents by least squares.
    """
    path = shared() / "scores" / f"{source}.parquet"
    if not path.is_file():
        return {}
    frame = pd.read_parquet(path, columns=COLUMNS).query("flops > 0 and checkpoint_step > 0")
    frame["kind"] = frame["metric"].map(lambda name: KINDS.get(metric_info(str(name)).family))
    frame = frame[frame["flops"] >= EARLIEST * frame.groupby("model")["flops"].transform("max")]
    names = ["kind", "model", "variant", "task", "metric", "num_fewshot"]
    found: dict[str, list[Real]] = {}
    for kind, part in frame.groupby("kind"):
        groups = part.groupby(names, dropna=False, sort=True).indices
        places = [place for place in groups.values() if len(place) >= SHORTEST]
        for i in rng.permutation(len(places))[:most]:
            rows = part.iloc[places[i]].sort_values("checkpoint_step").drop_duplicates("checkpoint_step")
            if len(rows) < SHORTEST:
                continue
            rows = rows.iloc[np.linspace(0, len(rows) - 1, min(24, len(rows))).round().astype(int)]
            score = rows["score"].to_numpy(dtype=float)
            c = np.nan_to_num(float(rows["chance"].iloc[0]))
            bits = kind != KINDS["proportion"]
            y = np.log(8.0 / np.maximum(score, 1e-9)) if bits else (score - c) / (1.0 - c)
            x = np.log(rows["flops"].to_numpy(dtype=float))
            made = _profile(x, y)
            if made is not None:
                found.setdefault(str(kind), []).append(Real(made, x, y))
    return found


def _profile(x: Array, y: Array) -> Profile | None:
    z, n = x - x[0], len(x)
    best: tuple[float, float, float, Array] | None = None
    for exponent in EXPONENTS:
        design = np.column_stack([np.ones(n), law(z, exponent)])
        beta = np.linalg.lstsq(design, y, rcond=None)[0]
        rest = y - design @ beta
        if best is None or rest @ rest < best[0]:
            best = (float(rest @ rest), exponent, float(beta[1]), rest)
    if best is None or best[0] < 1e-12:
        return None
    left, exponent, slope, rest = best
    half = n // 2
    early = np.sqrt(float((rest[:half] ** 2).mean() / max((rest[half:] ** 2).mean(), 1e-12)))
    # Residuals of three fitted parameters are correlated by about -1.5 / n where the noise is white.
    correlation = float(rest[1:] @ rest[:-1]) / left + 1.5 / n
    return Profile(
        slope, exponent, float(np.sqrt((rest[half:] ** 2).sum() / max(n - half - 1.5, 1.0))),
        float(np.clip(early, 1.0, 5.0)), float(np.clip(correlation, 0.0, 0.9)),
    )  # fmt: skip


def _as_they_are(name: str, found: Sequence[Real]) -> dict[str, object]:
    noticed = [int(_noticed(one.x, one.y[None], 1)[0]) < len(one.x) for one in found]
    low, high = _interval(sum(noticed), len(found))
    return {
        "kind": "real", "scenario": name, "evaluations": int(np.median([len(one.x) for one in found])),
        "runs": len(found), "alarms": float(np.mean(noticed)), "low": low, "high": high, "held": low <= RATE,
        "correlation": float(np.median([one.profile.correlation for one in found])),
        "sd": float(np.median([one.profile.sd for one in found])),
    }  # fmt: skip


def _control(
    name: str, profiles: Sequence[Profile], share: Array, setting: Setting, rng: np.random.Generator
) -> dict[str, object]:
    z = np.log(share / share[0])
    runs, per = setting.runs, setting.capabilities
    if len(profiles) == 1:
        y = profiles[0].growth(z) + profiles[0].noise(z, rng, runs * per)
    else:
        drawn = rng.integers(len(profiles), size=runs * per)
        y = np.concatenate([profiles[i].growth(z) + profiles[i].noise(z, rng, 1) for i in drawn])
    alarm = _noticed(z, y, per).reshape(runs, per) < len(share)
    count = int(alarm.any(axis=1).sum())
    place = np.arange(5, len(share))
    bands = [expected(z, one, z[place], place) for one in y[: setting.bands * per]]
    inside = [(one.low <= y[i, place]) & (y[i, place] <= one.high) for i, one in enumerate(bands)]
    low, high = _interval(count, runs)
    return {
        "kind": "control", "scenario": name, "evaluations": len(share), "runs": runs,
        "alarms": count / runs, "low": low, "high": high,
        "held": low <= RATE, "inside": float(np.mean(inside)),
        "correlation": float(np.median([one.correlation for one in profiles])),
        "sd": float(np.median([one.sd for one in profiles])),
    }  # fmt: skip


def _losses(share: Array, profile: Profile) -> dict[str, Array]:
    """What each loss takes from the score, [n]."""
    z = np.log(share / share[0])
    after = share > HALF + 1e-9
    growth = profile.growth(z)
    stopped = np.where(after, growth - growth[~after][-1], 0.0)
    ramp = np.clip((share - HALF) / 0.1, 0.0, 1.0)
    made: dict[str, Array] = {
        f"at once, {size} sd": np.asarray(after * size * profile.sd, dtype=float) for size in (3, 5, 8, 12)
    }
    made["stop"] = stopped
    return made | {f"forgetting {size:.0%}": stopped + size * ramp for size in (0.03, 0.05, 0.1)}


def _loss(
    name: str, profile: Profile, what: str, share: Array, setting: Setting, rng: np.random.Generator
) -> dict[str, object]:
    z, runs = np.log(share / share[0]), setting.losses
    y = profile.growth(z) - _losses(share, profile)[what] + profile.noise(z, rng, runs)
    at = int((share <= HALF + 1e-9).sum())
    noticed = _noticed(z, y, setting.capabilities)
    found = (noticed >= at) & (noticed < len(share))
    delay = float(np.median(np.where(found, noticed - at + 1, np.inf)))
    low, high = _interval(int(found.sum()), runs)
    return {
        "kind": "loss", "scenario": f"{name}: {what}", "evaluations": len(share), "runs": runs,
        "alarms": float(found.mean()),
        "low": low, "high": high, "delay": delay if np.isfinite(delay) else np.nan,
        "of_run": delay / len(share) if np.isfinite(delay) else np.nan, "sd": profile.sd,
    }  # fmt: skip


def _noticed(z: Array, y: Array, capabilities: int) -> np.ndarray:
    """The evaluation at which each series raises its alarm; n where it raises none."""
    hit = np.concatenate([fall_evidence(z, part).log_e for part in np.array_split(y, max(1, len(y) // 500))])
    hit = hit >= np.log(MARGIN * capabilities / RATE)
    return np.where(hit.any(axis=1), hit.argmax(axis=1), y.shape[1])


def _interval(count: int, total: int) -> tuple[float, float]:
    """95% of a share, Clopper and Pearson."""
    interval = stats.binomtest(count, total).proportion_ci(0.95)
    return float(interval.low), float(interval.high)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few runs, to see that it works")
    print(run(setting=SMOKE if parser.parse_args().smoke else None).to_string(index=False))

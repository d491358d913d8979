"""Do early items decide better between small models than random items, and late items between large ones?

Per-item losses over the checkpoints of many models. Items are chosen on two thirds of the models and decide
between the others: pairs of checkpoints of different held-out models within a factor 1.3 in compute. Three
references, none of which holds an item of the subset: validation loss; the rest of the benchmark at the same
checkpoints; and the rest as the neighbouring checkpoints of the same runs show it, which a checkpoint's own
wobble does not reach.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

from scaling.item_subsets import choose_items, items_needed, like_pairs
from scaling.item_windows import early_late, item_windows
from scaling.items import ItemScores
from scaling.readers import read_scores
from tests.study.real import shared

ARCHIVE = "gemstones.tar.zst"
VALIDATION = "loss:gemstones_dclm"
ENOUGH = 500  # checkpoints of a benchmark that covers whole runs
SIZES = {"25": 25, "50": 50, "100": 100, "10%": 0.1, "half": 0.5}
HALVES, SHOWN = "early/late halves", "10%"  # SHOWN: for each benchmark on its own
FOLDS, REPEATS, DRAWS, RESAMPLES = 3, 3, 100, 1000
REFERENCES = ("validation loss", "rest, same checkpoints", "rest, other checkpoints")
CHOSEN = ("early", "late", "early_alone", "late_alone")  # alone: chosen as if noise were independent


@cache
def loaded() -> dict[str, tuple[ItemScores, np.ndarray]]:
    """Benchmark -> its item scores and the validation loss of each checkpoint; empty without the inputs."""
    files = sorted((shared() / "scores" / "items").glob("*.npz"))
    archive = shared() / "sources" / ARCHIVE
    if not files or not archive.is_file():
        return {}
    table = read_scores([archive], drop_bad=True)
    frame = table.frame[(table.frame["task"] == VALIDATION) & table.frame["variant"].isna()]
    loss = frame.set_index(["model", "step"])["score"]
    found = {}
    for path in files:
        items = ItemScores.read(path, table)
        keys = pd.MultiIndex.from_arrays([items.model, items.step])
        found[items.task] = items, loss.reindex(keys).to_numpy(dtype=float)
    return found


def absent() -> pd.DataFrame:
    """What is printed in place of figures that cannot be measured here."""
    return pd.DataFrame([{"skipped": f"scores/items or sources/{ARCHIVE} not found under {shared()}"}])


def neighbours(items: ItemScores, last: int = 10) -> np.ndarray:
    """[c, c]: what a line through the other checkpoints of a stretch of its run says of each checkpoint."""
    out = np.zeros((len(items.step),) * 2)
    for model in np.unique(items.model):
        rows = np.flatnonzero(items.model == model)
        rows = rows[np.argsort(items.flops[rows])]
        while len(rows):
            cut = -last if len(rows) >= last + 5 else 0
            stretch, rows = rows[cut:], rows[:cut]
            x = items.x[stretch]
            line = np.linalg.qr(np.column_stack([np.ones(len(x)), x - x.mean()]))[0]
            hat = line @ line.T
            lever = np.diag(hat)[:, None]
            out[np.ix_(stretch, stretch)] = (hat - np.diag(lever[:, 0])) / (1.0 - lever)
    return out


class Bench:
    """Pairs of one benchmark, and how subsets of its items order them."""

    def __init__(self, items: ItemScores, validation: np.ndarray) -> None:
        self.items, self.validation = items, validation
        self.names, self.run = np.unique(items.model, return_inverse=True)
        self.smooth = neighbours(items)
        self.edges = np.quantile(items.x, [1 / 3, 2 / 3])
        self.scores = np.asarray(items.scores, dtype=float)
        first, second = like_pairs(items)
        middle = (items.x[first] + items.x[second]) / 2
        region = np.where(middle <= self.edges[0], 0, np.where(middle >= self.edges[1], 1, -1))
        self.pairs = [(first[region == r], second[region == r]) for r in (0, 1)]

    def right(self, subsets: list[np.ndarray], region: int, among: np.ndarray) -> np.ndarray:
        """Pairs ordered right, summed per pair of models: [references, K, K, subsets].

        Args:
            among: bool per model [K]: both models of a pair are of these.
        """
        total, count = self.scores.shape[1], np.array([len(one) for one in subsets])
        inside = np.zeros((total, len(subsets)))
        for i, one in enumerate(subsets):
            inside[one, i] = 1.0
        sums = self.scores @ inside
        everything = self.scores.sum(axis=1, keepdims=True)
        rest = np.where(count < total, (everything - sums) / np.maximum(total - count, 1), np.nan)
        a, b = self.pairs[region]
        use = among[self.run[a]] & among[self.run[b]]
        a, b = a[use], b[use]
        shown = np.sign((sums[a] - sums[b]) / count)
        known = np.repeat(self.validation[:, None], len(subsets), axis=1)
        models = len(self.names)
        where = self.run[a] * models + self.run[b], np.arange(len(a))
        summed = coo_matrix((np.ones(len(a)), where), shape=(models**2, len(a))).tocsr()
        out = [
            summed @ (0.5 + 0.5 * shown * np.sign(truth[a] - truth[b]))
            for truth in (known, rest, self.smooth @ rest)
        ]
        return np.stack(out).reshape(len(REFERENCES), models, models, -1)

    def count(self, region: int, among: np.ndarray) -> np.ndarray:
        """Pairs per pair of models, [K, K]."""
        a, b = (self.run[side] for side in self.pairs[region])
        use = among[a] & among[b]
        out = np.zeros((len(self.names),) * 2)
        np.add.at(out, (a[use], b[use]), 1.0)
        return out


def folds_of(bench: Bench, rng: np.random.Generator) -> list[np.ndarray]:
    """Held-out models of each fold, as bool [K]; each fold holds models of all sizes."""
    top = np.array([bench.items.flops[bench.run == k].max() for k in range(len(bench.names))])
    order, fold = np.argsort(top), np.empty(len(top), dtype=int)
    for start in range(0, len(order), 2 * FOLDS):
        part = order[start : start + 2 * FOLDS]
        fold[part] = rng.permutation(np.arange(len(part)) % FOLDS)
    return [fold == f for f in range(FOLDS)]


def subsets_of(bench: Bench, held_out: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Size -> kind -> items, chosen on the models that are not held out."""
    windows = item_windows(bench.items.where(~held_out[bench.run]))
    total = bench.items.n_items
    low, high = 10.0 ** bench.items.x.min(), 10.0 ** bench.items.x.max()
    intervals = {"early": (low, 10.0 ** bench.edges[0]), "late": (10.0 ** bench.edges[1], high)}
    orders = {}
    for kind, interval in intervals.items():
        orders[kind] = choose_items(windows, *interval, total // 2).index
        orders[f"{kind}_alone"] = choose_items(windows, *interval, total // 2, redundancy=False).index
    out = {
        name: {kind: orders[kind][: number(size, total)] for kind in CHOSEN} for name, size in SIZES.items()
    }
    halves = early_late(windows)
    out[HALVES] = {"early": halves.early, "late": halves.late}
    return out


def number(size: float, total: int) -> int:
    return int(size * total) if size < 1 else int(size)


def tallies(bench: Bench, seed: int) -> dict:
    """(size, region) -> kind -> right [references, K, K, subsets], and `pairs` [K, K]."""
    rng = np.random.default_rng(seed)
    total, everyone = bench.items.n_items, np.ones(len(bench.names), dtype=bool)
    splits = [held for _ in range(REPEATS) for held in folds_of(bench, rng)]
    out: dict = {(size, region): {} for size in (*SIZES, HALVES) for region in (0, 1)}
    for held in splits:
        for size, kinds in subsets_of(bench, held).items():
            for region in (0, 1):
                right = bench.right(list(kinds.values()), region, held)
                found = out[size, region]
                for i, kind in enumerate(kinds):
                    found[kind] = found.get(kind, 0.0) + right[..., i : i + 1]
    # Random items need no training: the same draws for all folds, weighted by how often a pair is held out.
    together = sum(np.outer(held, held) for held in splits)[..., None]
    whole = [bench.right([np.arange(total)], region, everyone) * together for region in (0, 1)]
    for (size, region), found in out.items():
        take = number(SIZES.get(size, 0.5), total)
        draws = [rng.choice(total, take, replace=False) for _ in range(DRAWS)]
        found["random"] = bench.right(draws, region, everyone) * together
        found["luck"] = found["random"].mean(axis=-1, keepdims=True)
        found["all"] = whole[region]
        found["pairs"] = bench.count(region, everyone) * together[..., 0]
    return out


def shares(found: dict, kind: str, reference: int, weights: np.ndarray) -> np.ndarray:
    """Share ordered right, [resamples, subsets], for multiplicities of models [resamples, K]."""
    if kind not in found:
        return np.full((len(weights), 1), np.nan)
    right = np.einsum("wa,abs,wb->ws", weights, found[kind][reference], weights, optimize=True)
    pairs = np.einsum("wa,ab,wb->w", weights, found["pairs"], weights, optimize=True)
    return right / np.where(pairs > 0, pairs, np.nan)[:, None]


def row_of(benches: list[dict], size: str, region: int, reference: int, weights: np.ndarray) -> dict:
    """Accuracies of one size, region and reference; several benchmarks are averaged within each resample."""
    cells = [found[size, region] for found in benches]
    by = {
        kind: np.mean([shares(cell, kind, reference, weights) for cell in cells], axis=0)
        for kind in (*CHOSEN, "all", "luck")
    }
    draws = np.mean([shares(cell, "random", reference, weights[:1])[0] for cell in cells], axis=0)
    row = {
        "compute": ("small", "large")[region], "reference": REFERENCES[reference], "items": size,
        "model_pairs": int((sum(cell["pairs"] + cell["pairs"].T for cell in cells) > 0).sum() / 2),
        **{kind: value[0, 0] for kind, value in by.items() if kind != "luck"},
        "random": draws.mean(), "random_5": np.quantile(draws, 0.05), "random_95": np.quantile(draws, 0.95),
    }  # fmt: skip
    against = {"early_gain": ("early", "luck"), "late_gain": ("late", "luck")}
    against["early_over_late"] = ("early", "late")
    for name, (kind, other) in against.items():
        gain = (by[kind] - by[other])[:, 0]
        row[name] = gain[0]
        row[f"{name}_low"], row[f"{name}_high"] = np.nanquantile(gain[1:], [0.025, 0.975])
    return row


def measure(seed: int = 0) -> pd.DataFrame:
    """One row per benchmark (and their mean), size, compute and reference."""
    full = {task: pair for task, pair in loaded().items() if len(pair[0].step) >= ENOUGH}
    if not full:
        return absent()
    benches = {task: Bench(*pair) for task, pair in full.items()}
    counted = {task: tallies(bench, seed) for task, bench in benches.items()}
    models = len(next(iter(benches.values())).names)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(models, np.full(models, 1 / models), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, models)), drawn]).astype(float)
    rows = []
    for task, found in [*((task, [one]) for task, one in counted.items()), ("mean", list(counted.values()))]:
        for size, region, reference in product((*SIZES, HALVES), (0, 1), range(len(REFERENCES))):
            rows.append({"benchmark": task} | row_of(found, size, region, reference, weights))
    frame = pd.DataFrame(rows)
    # The whole benchmark leaves no rest to be compared with.
    frame.loc[frame["reference"] != REFERENCES[0], "all"] = np.nan
    return frame


def run(seed: int = 0) -> pd.DataFrame:
    """Means over benchmarks for every size, then each benchmark at one size."""
    frame = measure(seed)
    if "skipped" in frame:
        return frame
    each = frame[frame["benchmark"] != "mean"]
    mean = frame[frame["benchmark"] == "mean"].set_index(["compute", "reference", "items"])
    cells = each.groupby(["compute", "reference", "items"])
    for kind in ("early", "late"):
        # Of the benchmarks, those whose interval lies above zero, and below.
        up = cells[f"{kind}_gain_low"].agg(lambda low: (low > 0).sum()).reindex(mean.index).astype(str)
        down = cells[f"{kind}_gain_high"].agg(lambda high: (high < 0).sum()).reindex(mean.index).astype(str)
        mean[f"{kind}_up_down"] = up + "/" + down
    single = each[each["items"] == SHOWN]
    return pd.concat([mean.reset_index(), single], ignore_index=True)


def run_needed() -> pd.DataFrame:
    """Items that keep the standard error under 0.5, 1 and 2% of the mean, in the upper third of compute."""
    rows = []
    for items, _ in loaded().values():
        at = (10.0 ** np.quantile(items.x, 2 / 3), 10.0 ** items.x.max())
        inside = items.where((items.flops >= at[0]) & (items.flops <= at[1]))
        row = {"benchmark": items.task, "items": items.n_items, "mean_nats": inside.mean().mean()}
        for share in (0.005, 0.01, 0.02):
            found = items_needed(items, share * row["mean_nats"], at)
            more = items_needed(items, share * row["mean_nats"], at, finite=False)
            row |= {
                f"one_{share:.1%}": found.needed, f"two_{share:.1%}": found.needed_paired,
                f"two_{share:.1%}_any_items": more.needed_paired,
            }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows) if rows else absent()


def run_windows(seed: int = 0) -> pd.DataFrame:
    """Windows of items, and whether two halves of the models agree on what is early and what is late."""
    rows = []
    for items, _ in loaded().values():
        windows = item_windows(items)
        names = np.unique(items.model)
        part = np.isin(items.model, np.random.default_rng(seed).choice(names, len(names) // 2, replace=False))
        halves = [item_windows(items.where(side)) for side in (part, ~part)]
        cut = [10.0 ** np.quantile(items.x, q) for q in (0.0, 1 / 3, 2 / 3, 1.0)]
        gains = [[half.gain(*ends) / half.noise for half in halves] for ends in (cut[:2], cut[2:])]
        both = np.isfinite(halves[0].centre) & np.isfinite(halves[1].centre)
        low, middle, high = np.nanquantile(windows.centre, [0.1, 0.5, 0.9])
        rows.append(
            {
                "benchmark": items.task, "items": items.n_items,
                "improves": np.isfinite(windows.centre).mean(),
                "has_window": np.isfinite(windows.opens).mean(),
                "centre_10": 10.0**low, "centre_50": 10.0**middle, "centre_90": 10.0**high,
                "centre_agrees": rank_correlation(halves[0].centre[both], halves[1].centre[both]),
                "early_information_agrees": rank_correlation(*gains[0]),
                "late_information_agrees": rank_correlation(*gains[1]),
                "early_with_late": rank_correlation(gains[0][0], gains[1][0]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows) if rows else absent()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(pd.Series(a).corr(pd.Series(b), method="spearman"))

"""Multi-token prediction against none: at equal steps, and at equal compute."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

from data.prepared import Prepared
from scaling.files import replacing
from tests.study.training_runs import corpus, corpus_missing, corpus_tokens, say, task_scores, trained
from train.config import read_config
from train.plan import Plan

# Choices and minimal pairs of benchmarks, then skills made from a seed.
TASKS = (
    "arc_easy", "sciq", "piqa", "hellaswag", "commonsense_qa", "basic_skills_arithmetic", "dm_place_value",
    "zorro_agreement", "blimp_determiner_noun_agreement", "blimp_subject_verb_agreement",
    "skill_agreement", "skill_bracket_next", "skill_copy", "skill_induction", "skill_next_number",
    "skill_recall", "skill_reverse", "skill_word_problem",
)  # fmt: skip
METRICS = ("bpb", "acc")
PLAIN, MTP, LONGER = "plain", "mtp", "longer"
COMPARED = {"equal steps": PLAIN, "equal compute": LONGER}  # what `MTP` is compared with


@dataclass(frozen=True)
class Setting:
    """Size of the study.

    Attributes:
        steps: of the arms `plain` and `mtp`. preset, vocab, context, rows: of model and batch.
        depth, weight: of multi-token prediction. most: bytes of text of each domain.
        validation: tokens of each domain. items: of a task. prompts, prompt, given: to decode from each
            domain, their length, and tokens to give.
    """

    steps: int = 400
    preset: str = "0.8m"
    vocab: int = 2048
    context: int = 256
    rows: int = 8
    depth: int = 1
    weight: float = 0.3
    most: int = 3_000_000
    validation: int = 65_536
    items: int = 150
    prompts: int = 8
    prompt: int = 32
    given: int = 64

    @property
    def digest(self) -> str:
        """Tells finished arms of one setting from those of another."""
        return hashlib.sha256(json.dumps([asdict(self), TASKS]).encode()).hexdigest()[:12]


SMOKE = Setting(
    steps=20, preset="0.1m", vocab=512, context=128, rows=4, most=60_000, validation=2_000, items=8,
    prompts=1, prompt=8, given=8,
)  # fmt: skip


def run(
    seeds: Sequence[int] = (0, 1, 2),
    setting: Setting | None = None,
    keep: str | Path | None = None,
    jobs: int = 2,
) -> pd.DataFrame:
    """Train every arm for every seed, and tell what multi-token prediction changed.

    The arms begin with the same weights and read the same rows in the same order, each with a whole schedule
    of its own: `plain`; `mtp`, as many steps; `longer`, plain for the steps that the FLOPs of `mtp` pay for.

    Args:
        seeds: of weights and order. setting: its size.
        keep: folder in which finished arms, and checkpoints of unfinished ones, are found again; a temporary
            one where absent.
        jobs: arms at a time, one thread each.

    Returns:
        Rows of two kinds. A comparison has `compared`, `of` (a domain, a task, a mean), `metric`, the means
        `other` and `mtp` over seeds, their `difference` with the 95% interval `low`..`high` of a paired t
        test (n - 1 degrees of freedom: with three seeds 2.5 standard deviations to each side), and
        `same_sign`, seeds on the side of the mean. What an arm costs (`of` = "cost") and how it decodes
        ("decoding") stands there as means alone.
    """
    if corpus() is None:
        return pd.DataFrame([corpus_missing()])
    setting = setting or Setting()
    if keep is None:
        with tempfile.TemporaryDirectory() as folder:
            return _run(seeds, setting, Path(folder), jobs)
    return _run(seeds, setting, Path(keep).resolve(), jobs)


def _run(seeds: Sequence[int], setting: Setting, keep: Path, jobs: int) -> pd.DataFrame:
    keep = keep / setting.digest
    keep.mkdir(parents=True, exist_ok=True)
    prepared = corpus_tokens(keep / "tokens", vocab=setting.vocab, most=setting.most)
    say(f"{keep}: {len(prepared.domains)} domains\n{prepared.card.to_string(index=False)}")
    steps = _steps(setting, prepared)
    wanted = [(arm, seed) for seed in seeds for arm in (MTP, LONGER, PLAIN)]
    made = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_arm)(arm, seed, steps[arm], setting, keep) for arm, seed in wanted
    )
    found: list[dict[str, Any]] = []
    one: Any
    for one in made:
        found.append(one)
        say(f"{len(found)} of {len(wanted)} arms: {one['arm']} of seed {one['seed']}, {_short(one)}")
    return told(pd.DataFrame([row for one in found for row in _rows(one)]))


def _settings(setting: Setting, arm: str, seed: int, steps: int, tokens: Path) -> dict[str, Any]:
    return {
        "steps": steps, "seed": seed, "data.folder": str(tokens), "model.preset": setting.preset,
        "model.context": setting.context, "batch.rows": setting.rows,
        "mtp.depth": setting.depth if arm == MTP else 0, "mtp.weight": setting.weight,
        "validation.every": 0, "validation.tokens": setting.validation, "checkpoint.every": 100,
    }  # fmt: skip


def _steps(setting: Setting, prepared: Prepared) -> dict[str, int]:
    """Steps of each arm; of `longer` what the FLOPs of `mtp` pay for."""

    def cost(arm: str) -> float:
        config = read_config(settings=_settings(setting, arm, 0, setting.steps, prepared.folder))
        return Plan.of(config, prepared).size.training

    longer = round(setting.steps * cost(MTP) / cost(PLAIN))
    return {PLAIN: setting.steps, MTP: setting.steps, LONGER: longer}


def _arm(arm: str, seed: int, steps: int, setting: Setting, keep: Path) -> dict[str, Any]:
    """Train an arm and measure it; or what was measured before."""
    done, folder = keep / f"{arm}-{seed}.json", keep / f"{arm}-{seed}"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    one = trained(folder, _settings(setting, arm, seed, steps, keep / "tokens"))
    found = {
        "arm": arm, "seed": seed, "steps": steps, "flops": one.outcome.flops,
        "cpu_seconds_per_step": one.cpu_seconds,
        "bpb": {name: loss.bpb for name, loss in one.outcome.losses.items()},
        "tasks": task_scores(one.trainer, TASKS, setting.items, METRICS),
    }  # fmt: skip
    if arm == MTP:
        found["decoding"] = _decoding(one.trainer, setting)
    with replacing(done) as part:
        part.write_text(json.dumps(found), encoding="utf-8")
    shutil.rmtree(folder)
    return found


def _decoding(trainer: Any, setting: Setting) -> dict[str, float]:
    """Acceptance on held-out text, told and decoded, and what drafts save."""
    from train.decode import acceptance, greedy, speculative

    model, context = trainer.model, setting.context
    shares, drafted, accepted, passes, tokens, unlike = [], 0, 0, 0, 0, 0
    seconds = [0.0, 0.0]
    for one in trainer.plan.prepared.tokens("validation").values():
        rows = min(setting.validation // context, (len(one) - 1) // context)
        ids = np.stack([one.read(i * context, context + 1) for i in range(rows)])
        shares.append(acceptance(model, ids)[0])
        for i in np.linspace(0, len(one) - setting.prompt, setting.prompts, endpoint=False).astype(int):
            prompt = one.read(int(i), setting.prompt).tolist()
            told = []
            for k, decode in enumerate((greedy, speculative)):
                start = time.process_time()
                told.append(decode(model, prompt, setting.given))
                seconds[k] += time.process_time() - start
            drafted, accepted = drafted + told[1].drafted, accepted + told[1].accepted
            passes, tokens = passes + told[1].passes, tokens + len(told[1].ids)
            unlike += told[0].ids != told[1].ids
    return {
        "acceptance on text": float(np.mean(shares)), "acceptance decoding": accepted / drafted,
        "tokens per pass": tokens / passes, "decoding speed-up": seconds[0] / seconds[1],
        "prompts decoded unlike greedy": float(unlike),
    }  # fmt: skip


def _rows(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Figures of an arm, one a row: arm, seed, of, metric, value."""
    figures = [(name, "bpb of text", value) for name, value in one["bpb"].items()]
    figures.append(("all domains", "bpb of text", float(np.mean(list(one["bpb"].values())))))
    for metric in METRICS:
        scores = {name: told[metric] for name, told in one["tasks"].items()}
        figures += [(name, metric, score) for name, score in scores.items()]
        for kind, made in (("all benchmarks", False), ("all skills", True)):
            of_kind = [score for name, score in scores.items() if name.startswith("skill_") == made]
            figures.append((kind, metric, float(np.mean(of_kind))))
    figures += [("cost", name, one[name]) for name in ("steps", "flops", "cpu_seconds_per_step")]
    figures += [("decoding", name, value) for name, value in one.get("decoding", {}).items()]
    keys = {"arm": one["arm"], "seed": one["seed"]}
    return [{**keys, "of": of, "metric": metric, "value": value} for of, metric, value in figures]


def told(figures: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Paired differences over seeds, from rows of arm, seed, of, metric and value.

    Example:
        >>> rows = [{"arm": arm, "seed": seed, "of": "x", "metric": "bpb", "value": value}
        ...         for arm, values in {"plain": (2, 2), "longer": (2, 2), "mtp": (1, 3)}.items()
        ...         for seed, value in enumerate(values)]
        >>> told(pd.DataFrame(rows))["difference"].tolist()
        [0.0, 0.0]
    """
    keys = ["of", "metric"]
    order = list(dict.fromkeys(zip(*(figures[key] for key in keys), strict=True)))
    wide = figures.pivot(index=[*keys, "seed"], columns="arm", values="value")
    rows = []
    for compared, other in COMPARED.items():
        for of, metric in order:
            part = wide.loc[(of, metric)]
            row = {"compared": compared, "of": of, "metric": metric}
            row |= {"other": part[other].mean(), "mtp": part[MTP].mean()}
            if of in ("cost", "decoding"):
                rows.append(row)
                continue
            difference = (part[MTP] - part[other]).to_numpy()
            n, mean = len(difference), float(difference.mean())
            half = math.nan
            if n > 1:
                half = float(stats.t.ppf((1 + level) / 2, n - 1) * difference.std(ddof=1) / math.sqrt(n))
            same = int((np.sign(difference) == np.sign(mean)).sum())
            row |= {"difference": mean, "low": mean - half, "high": mean + half}
            rows.append(row | {"same_sign": f"{same}/{n}"})
    found = pd.DataFrame(rows)
    return found[(found["of"] != "decoding") | (found["compared"] == next(iter(COMPARED)))]


def _short(one: dict[str, Any]) -> str:
    bpb = np.mean(list(one["bpb"].values()))
    return f"{one['steps']} steps, {one['cpu_seconds_per_step']:.3f} s each, {bpb:.4f} bits per byte"


def main(show: Callable[[str], None] = print) -> None:
    """`python -m tests.study.mtp`: the study by itself, so that it can be stopped and taken up again."""
    parser = argparse.ArgumentParser(prog="python -m tests.study.mtp", description=__doc__)
    parser.add_argument("--keep", help="folder in which finished arms are found again")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--steps", type=int, help=f"of an arm; {Setting.steps} where absent")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="arms at a time")
    options = parser.parse_args()
    setting = SMOKE if options.smoke else Setting(steps=options.steps or Setting.steps)
    frame = run(options.seeds, setting, options.keep, options.jobs)
    show(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


if __name__ == "__main__":
    main()

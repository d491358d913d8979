"""What a vocabulary costs and what it gives: the same text, by tokenizers of several sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data.prepare import SAMPLE
from data.sieve import Refuse
from data.sources import Source
from data.tokenizer import MIN_SIZE
from train.lock import workplace
from train.shared_text import Progress, encoded, held_out_costs, read_once, train_bytes_per_token
from train.short_runs import affordable, check_asked, config_of, lasting, plan_of, row_of, run_of
from train.vocabulary import Vocabulary, check_vocabularies, label_of, parse_vocabulary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from train.plan import Plan

FLOPS = 1e12  # of each short run
HELD_OUT = 65_536  # bytes of each domain
_FEW = 50  # steps of a run that says little


@dataclass(frozen=True, eq=False)
class Tradeoff:
    """Vocabularies side by side.

    Bytes and words (parted by white space) per token are of held-out text without the ends of documents.
    FLOPs are of training, forward and backward, as `train.sizes.size_of` counts them. Losses are means over
    the seeds, `_sd` their standard deviation (NaN of one); over all domains they are all bits by all bytes.

    Attributes:
        vocabularies: a row each: `vocabulary` (as asked), `asked`, `size` (ids the text gave), `context`
            (tokens of a row) and `context_bytes`, `rows`, `bytes_per_token`, `words_per_token`, `params`,
            `embedding_share` (embedding, and head where it is not tied), `flops_per_token`, `flops_per_byte`.
            Of one short run: `steps`, and `tokens`, `bytes`, `epochs` read, `flops`. `bpb`, `bpb_sd`;
            `seconds` that the steps of all seeds took.
        domains: a row for each vocabulary and domain: `bytes_per_token`, `words_per_token`,
            `flops_per_byte`, `bpb`, `bpb_sd`.
        runs: a row for each vocabulary and seed, with `bpb` and `bpb.<domain>`; empty without short runs.
        flops: meant for each short run; NaN without them.

    Example:
        >>> tradeoff("embedded", "512,2k,8k").to_frame()                  # doctest: +SKIP
    """

    vocabularies: pd.DataFrame
    domains: pd.DataFrame = field(repr=False)
    runs: pd.DataFrame = field(repr=False)
    flops: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know first: vocabularies that are not filled, runs too short, or of text read too often."""
        told = []
        for one in self.vocabularies.to_dict("records"):
            name = f"vocabulary {one['vocabulary']}"
            if one["size"] < one["asked"]:
                told.append(f"{name}: the text gives {one['size']:,} ids of {one['asked']:,}; give more text")
            if one.get("steps", _FEW) < _FEW:
                told.append(f"{name}: {one['steps']} steps say little of its loss; give a larger budget")
            if one.get("epochs", 0) > 4:
                told.append(f"{name}: reads its text {one['epochs']:.1f} times; give more text")
        return tuple(told)

    def to_frame(self) -> pd.DataFrame:
        """All of it, a row for each vocabulary: domains are columns such as `bpb.code`."""
        wide = self.domains.pivot(index="vocabulary", columns="domain").drop(columns="size")
        wide.columns = [f"{measure}.{domain}" for measure, domain in wide.columns]
        return self.vocabularies.join(wide, on="vocabulary")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw bits per byte over the size of the vocabulary (bytes per token where nothing was trained).

        A line for each domain and one for all; bars are standard deviations over seeds.

        Args:
            ax: where to draw; a new figure where absent.
        """
        from scaling.plot.canvas import INK, new_axes, plain

        ax = ax or new_axes(6.4, 4.0)
        trained = "bpb" in self.vocabularies
        measure = "bpb" if trained else "bytes_per_token"
        lines = [(str(name), rows) for name, rows in self.domains.groupby("domain")]
        for name, rows in [*lines, ("all", self.vocabularies)]:
            rows = rows.sort_values("size")
            x, y = (rows[column].to_numpy(dtype=float) for column in ("size", measure))
            error = np.nan_to_num(rows["bpb_sd"].to_numpy(dtype=float)) if trained else None
            look: dict[str, Any] = {"lw": 1.2}
            if name == "all":
                look = {"color": INK, "lw": 2.2, "zorder": 3}
            ax.errorbar(x, y, yerr=error, marker="o", ms=4, capsize=2, label=name, **look)
        ax.set_xscale("log", base=2)
        ax.set_xticks(self.vocabularies["size"].tolist(), self.vocabularies["vocabulary"].tolist())
        ax.minorticks_off()
        ax.set_xlabel("ids of the vocabulary")
        ax.set_ylabel(f"bits per byte after {self.flops:.2g} FLOPs" if trained else "bytes per token")
        plain(ax)
        ax.legend(frameon=False, fontsize=8)
        return ax

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{note}</p>" for note in self.notes)
        return self.vocabularies.to_html(index=False) + told + self.domains.to_html(index=False)


def tradeoff(
    sources: Source | str | Sequence[Source | str],
    vocabularies: str | Sequence[Vocabulary],
    *,
    preset: str = "0.3m",
    context: int = 128,
    context_bytes: int | None = None,
    rows: int = 4,
    settings: Mapping[str, Any] | None = None,
    flops: float | None = None,
    seconds: float | None = None,
    seeds: Sequence[int] = (0,),
    held_out: float = 0.02,
    held_out_bytes: int = HELD_OUT,
    sample: int = SAMPLE,
    refuse: Refuse | None = None,
    train: bool = True,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Tradeoff:
    """Compare vocabularies on one text: what they cost, and how well a small model learns with each.

    The text is read, sifted and split once; every tokenizer is trained on the same part of it and measured
    on the same held-out bytes. The short runs have equal compute: for each vocabulary

        steps = round(flops / (rows * context * training FLOPs per token))

    with a learning rate schedule of that length. Domains come in proportion to their text, so that all
    vocabularies read the same mixture of bytes. At equal compute a larger vocabulary makes fewer steps (its
    head costs more), each of which reads more bytes: that is part of the trade. Learning rates are the same.

    A row has the same number of tokens for all vocabularies, so a model with longer tokens sees further back
    in the text. `context_bytes` gives rows of equal bytes instead: the context of each vocabulary then is
    that many bytes of training text, and rows are as many as make about the same tokens a step as before.

    Args:
        sources: what to read, as for `data.prepare.prepare`.
        vocabularies: sizes, the end of a document among them, and "bytes"; or a text for `parse_vocabulary`.
        preset: of the model (`train.sizes`). context: tokens of a row. rows: of a step.
        context_bytes: instead, bytes of a row, about.
        settings: of the runs, by dotted name: model (but preset and context), mtp, optim, schedule, guard,
            device.
        flops: of each short run, 1e12 where not given.
        seconds: instead, of each short run at most: all get the FLOPs that the slowest of them makes in that
            time, measured here and now, so that figures may differ from day to day.
        seeds: a short run for each.
        held_out: share of documents. held_out_bytes: of each domain at most; the last document is cut there.
        sample: bytes of each domain that tokenizers are trained on.
        refuse: what must not be trained on, see `data.sieve.Sieve`.
        train: whether to make the short runs.
        folder: keeps the text, the tokens and the runs; a second call goes on where the first was stopped,
            and only adds what is missing. It is for one text, and stays where it is. A temporary folder where
            not given. Disk: about 3 bytes for each byte of text, 2 for each token, 12 for each weight.
        progress: `step(done, total, text)`, which starts anew with each part of the work.

    Raises:
        UsageError: a wrong setting, a budget that does not pay for a step, a folder of another text.
        StagewiseError, DataError: text that cannot be used; a run that cannot go on, or was stopped by a
            signal.

    Example:
        >>> tradeoff(["notes.jsonl"], "512,8k", flops=2e11).vocabularies["bpb"]     # doctest: +SKIP
    """
    asked = (
        parse_vocabulary(vocabularies) if isinstance(vocabularies, str) else check_vocabularies(vocabularies)
    )
    check_asked(flops, seconds, seeds, context_bytes, held_out_bytes, settings or {})
    told = {**(settings or {}), "model.preset": preset, "model.context": context, "batch.rows": rows}
    config_of(told)  # its errors come before the work
    with workplace(folder) as place:
        read_once(place, sources, held_out, held_out_bytes, refuse, progress)
        tokens = {label_of(one): encoded(place, one, sample, progress) for one in asked}
        plans = {name: plan_of(told, one, context_bytes) for name, one in tokens.items()}
        runs: list[dict[str, Any]] = []
        if train:
            budget = flops or FLOPS
            if seconds is not None:
                budget = affordable(place, plans, seconds, progress)
            plans = {name: lasting(plan, budget, name) for name, plan in plans.items()}
            for name, plan in plans.items():
                for seed in seeds:
                    runs.append(row_of(name, plan, seed, *run_of(place, name, plan, seed, progress)))
        return _result(asked, plans, pd.DataFrame(runs), budget if train else float("nan"))


def _result(
    asked: Sequence[Vocabulary], plans: Mapping[str, Plan], runs: pd.DataFrame, flops: float
) -> Tradeoff:
    rows, domains = [], []
    for vocabulary, (name, plan) in zip(asked, plans.items(), strict=True):
        size, reached = plan.size, plan.prepared.tokenizer.size
        mine = runs[runs["vocabulary"] == name] if len(runs) else runs
        held = {
            domain: one["validation"]
            for domain, one in plan.prepared.record["domains"].items()
            if one["validation"]["documents"]
        }
        cost = held_out_costs(list(held.values()), size.training)
        row = {
            "vocabulary": name, "size": reached,
            "asked": vocabulary if isinstance(vocabulary, int) else MIN_SIZE,
            "context": plan.config.model.context,
            "context_bytes": plan.config.model.context * train_bytes_per_token(plan.prepared),
            "rows": plan.config.batch.rows, **cost, "params": size.params,
            "embedding_share": (size.embedding + size.head) / size.params, "flops_per_token": size.training,
        }  # fmt: skip
        if len(mine):
            row |= {one: mine[one].iloc[0] for one in ("steps", "tokens", "bytes", "epochs", "flops")}
            row |= {**_over_seeds(mine["bpb"]), "seconds": mine["seconds"].sum()}
        rows.append(row)
        for domain, one in held.items():
            loss = _over_seeds(mine[f"bpb.{domain}"]) if len(mine) else {}
            told = {"vocabulary": name, "size": reached, "domain": domain}
            domains.append(told | held_out_costs([one], size.training) | loss)
    return Tradeoff(pd.DataFrame(rows), pd.DataFrame(domains), runs, flops)


def _over_seeds(losses: pd.Series) -> dict[str, float]:
    return {"bpb": float(losses.mean()), "bpb_sd": float(losses.std())}

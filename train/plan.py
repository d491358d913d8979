"""What a run will do at each step, worked out from its settings and its data before the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from data.batches import Batches
from data.mixture import Mixture, Phases
from data.prepared import Prepared
from scaling.errors import UsageError
from train.config import RunConfig
from train.model import ModelConfig
from train.schedule import Schedule
from train.sizes import Size, preset, size_of
from train.validation import Validation

_MOST, _AT_192 = 0.004, 0.003  # learning rates


@dataclass(frozen=True)
class Plan:
    """A run, ready to start.

    Attributes:
        config: with every default that follows from others filled in. shape: of the model.
        phases: of the mixture. prepared: the data.

    Example:
        >>> Plan.of(RunConfig(steps=100), Prepared.read("tokens")).schedule.at(50)       # doctest: +SKIP
        0.004
    """

    config: RunConfig
    shape: ModelConfig
    phases: Phases
    prepared: Prepared

    @classmethod
    def of(cls, config: RunConfig, prepared: Prepared) -> Plan:
        """Work out a run.

        Raises:
            UsageError, DataError: settings that contradict each other or the data.
        """
        shape = shape_of(config, prepared.tokenizer.size)
        tokens = prepared.tokens("train")
        told = config.mixture or {name: float(len(one)) for name, one in tokens.items()}
        mixture = Mixture.parse(told)
        phases = mixture.resolve(config.length)
        phases.check(tokens)
        rate = config.optim.lr or min(_MOST, _AT_192 * 192 / shape.width)
        resolved = replace(
            config, steps=config.length, tokens=None, mixture=mixture.to_json(),
            optim=replace(config.optim, lr=rate),
        )  # fmt: skip
        if config.data.folder is not None:  # the run may be taken up from elsewhere
            resolved = replace(resolved, data=replace(config.data, folder=str(prepared.folder.resolve())))
        plan = cls(resolved, shape, phases, prepared)
        _ = plan.schedule  # its errors belong here
        places = [change.at(config.length) for change in plan._mtp.changes["weight"]]
        if places != sorted(places):
            raise UsageError(
                f"mtp.weight is {config.mtp.weight!r}: change points have to ascend; in "
                f"{config.length} steps they are steps {', '.join(map(str, places))}"
            )
        return plan

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate."""
        one, steps = self.config.schedule, self.config.length
        warmup, decay = self.config.span(one.warmup), self.config.span(one.decay)
        if one.warmup + one.decay <= 1:  # shares, of which rounding must not make more than the run
            decay = min(decay, steps - warmup)
        return Schedule(
            one.kind,
            self.config.optim.lr or _MOST,
            steps,
            warmup,
            decay if one.kind == "wsd" else 0,
            one.floor,
        )

    @cached_property
    def size(self) -> Size:
        """Weights and FLOPs."""
        return size_of(self.shape, self.config.model.context, self.config.mtp.depth)

    def told(self) -> list[str]:
        """What the run is, and how often it reads its text, a line each."""
        size, tokens = self.size, self.config.length * self.tokens_per_step
        mtp = f" and {size.mtp:,} for multi-token prediction" if size.mtp else ""
        lines = [
            f"{size.params:,} parameters ({size.blocks:,} in blocks){mtp}; {tokens:,} tokens in "
            f"{self.config.length:,} steps; {tokens * size.training:.3g} FLOPs counted, "
            f"{tokens * size.six_n:.3g} as 6ND"
        ]
        for domain, rows in self.batches().repetitions().groupby("domain", sort=True):
            parts = [f"{one.epochs:.2g} in steps {one.steps}" for one in rows.itertuples() if one.rows]
            epochs = " + ".join(parts) or "never"
            lines.append(f"{domain}: {rows['tokens'].iloc[0]:,} tokens; epochs: {epochs}")
        missing = sorted(set(self.phases.domains) - set(self.prepared.tokens("validation")))
        if missing:
            lines.append(
                f"NO HELD-OUT TEXT of {', '.join(missing)}: its loss is not measured; raise data.held_out, "
                "or name a source with held_out = true"
            )
        return lines

    @property
    def tokens_per_step(self) -> int:
        """Of all ranks together."""
        return self.config.batch.rows * self.config.model.context

    def batches(self) -> Batches:
        """The batches of training."""
        context = self.config.model.context
        return Batches(
            self.prepared.tokens("train"), self.phases, rows=self.config.batch.rows, length=context + 1,
            stride=context, seed=self.config.seed,
        )  # fmt: skip

    def validation(self) -> Validation:
        """Held-out text."""
        config = self.config
        rows = config.batch.micro or config.batch.rows
        return Validation(
            self.prepared.tokens("validation"), self.prepared.tokenizer, config.model.context, rows,
            config.validation.tokens,
        )  # fmt: skip

    def mtp_weight(self, step: int) -> float:
        """Lambda of a step, shared by the depths."""
        weights, changes = self._mtp.weights["weight"], self._mtp.changes["weight"]
        return weights[sum(change.at(self.config.length) <= step for change in changes)]

    @cached_property
    def _mtp(self) -> Mixture:
        return Mixture.parse({"weight": self.config.mtp.weight})

    def branched(self, step: int, steps: int, mixture: Mapping[str, float | str] | None = None) -> RunConfig:
        """The settings of a run that leaves this one at `step`, its rate falling in `steps` more.

        What changes at a share of the run changes at the same steps as here. Another mixture, weights by
        domain, follows on what was read before `step`, so that no text comes twice.

        Raises:
            UsageError: no steps.
        """
        if steps < 1:
            raise UsageError(f"anneal: {steps} steps, valid is 1 or more")
        config = self.config
        if mixture:
            told = _followed(self.phases, step, mixture)
        else:
            told = Mixture.parse(config.mixture).in_steps(config.length).to_json()
        weight = self._mtp.in_steps(config.length).to_json()["weight"]
        rate = self.schedule.at(max(0, step - 1))
        if rate <= 0:
            raise UsageError(f"anneal: at step {step} the learning rate is {rate:g} already; branch earlier")
        return replace(
            config, steps=step + steps, mixture=told, mtp=replace(config.mtp, weight=weight),
            optim=replace(config.optim, lr=rate),
            schedule=replace(config.schedule, kind="wsd", warmup=0.0, decay=float(steps)),
            data=replace(config.data, folder=str(self.prepared.folder.resolve()), sources=()),
        )  # fmt: skip


def shape_of(config: RunConfig, vocab_size: int) -> ModelConfig:
    """The shape of the model, which can be checked before there is a tokenizer.

    Raises:
        UsageError: no such preset, a shape that cannot be.
    """
    section = asdict(config.model)
    name, context = section.pop("preset"), section.pop("context")
    if config.mtp.depth >= context:
        raise UsageError(f"mtp.depth is {config.mtp.depth}, valid is below model.context, {context}")
    told = {key: value for key, value in section.items() if value is not None}
    return preset(name, vocab_size=vocab_size, context_length=context, **told)


def _followed(phases: Phases, step: int, mixture: Mapping[str, float | str]) -> dict[str, float | str]:
    """A mixture that is that of `phases` up to a step, and another from there."""
    told: dict[str, float | str] = {}
    ends = [start for start in phases.starts[1:] if start < step] + [step]
    for name in sorted({*phases.domains, *mixture}):
        place = phases.domains.index(name) if name in phases.domains else None
        before = [0.0 if place is None else phases.weights[i][place] for i in range(len(ends))]
        parts = [f"{weight!r} until step {end}" for weight, end in zip(before, ends, strict=True) if end]
        told[name] = ", then ".join([*parts, str(mixture.get(name, 0.0))])
    return told

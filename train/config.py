"""What a run is: a dataclass, read from TOML, and written beside the run with every default filled in."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from data.sources import Source
from scaling.errors import UsageError
from scaling.files import replacing

_SETTINGS = ConfigDict(
    extra="forbid", use_attribute_docstrings=True, str_strip_whitespace=True, allow_inf_nan=False
)
_BRANCHES = ("float", "int", "str", "constrained-str")  # of unions, as pydantic names them


@dataclass(frozen=True, config=_SETTINGS)
class DataConfig:
    """Text, or tokens that were made of it before."""

    folder: str | None = None
    """A folder of tokens that `train data` wrote. Absent: made from `sources`, in the folder of the run."""
    sources: tuple[Source, ...] = (Source("embedded"),)
    """Where text comes from: tables of path, domain, files, most, held_out. "embedded" needs no download."""
    tokenizer: str | int = 4096
    """Ids of a byte-level BPE to train; or "bytes"; or a folder or file with a tokenizer."""
    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of documents kept for validation, by the hash of their text."""
    overlap: bool = True
    """Drop documents that share 13 words in a row with an item of a registered benchmark."""


@dataclass(frozen=True, config=_SETTINGS)
class ModelSection:
    """The decoder: a preset of the ladder, and what differs from it."""

    preset: str = "0.8m"
    """A rung of the ladder; `train sizes` lists them."""
    context: int = Field(default=256, ge=2)
    """Tokens of a row that the model reads."""
    layers: int | None = Field(default=None, ge=1)
    """Blocks."""
    width: int | None = Field(default=None, ge=2)
    """Of the residual stream."""
    heads: int | None = Field(default=None, ge=1)
    """Of the queries."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Of keys and values; as many as of the queries, if absent."""
    head_width: int | None = Field(default=None, ge=2)
    """Of one head."""
    hidden: int | None = Field(default=None, ge=1)
    """Inner width of the MLP."""
    tied: bool = True
    """The head is the embedding."""
    qk_norm: bool = True
    """Queries and keys are normalised: steadier at high rates. Exported as Qwen3, without it as Llama."""
    rope_theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotary angles."""


@dataclass(frozen=True, config=_SETTINGS)
class MTPConfig:
    """Multi-token prediction (DeepSeek-V3). Off by default: it costs a block and a head for each depth."""

    depth: int = Field(default=0, ge=0)
    """Further tokens predicted at every place."""
    weight: float | str = 0.3
    """Of its loss, the mean over depths: a number, or such as "0.3 until 67%, then 0.1"."""


@dataclass(frozen=True, config=_SETTINGS)
class BatchConfig:
    """Rows of a step."""

    rows: int = Field(default=16, ge=1)
    """Of all ranks together."""
    micro: int | None = Field(default=None, ge=1)
    """Rows of one forward pass; more rows are accumulated. All of a rank's, if absent."""


@dataclass(frozen=True, config=_SETTINGS)
class OptimConfig:
    """The optimiser."""

    name: Literal["muon", "adamw"] = "muon"
    """muon: for the matrices of the blocks, AdamW for the rest."""
    lr: float | None = Field(default=None, gt=0)
    """Highest learning rate. Absent: 0.003 at a width of 192, less in proportion above, never over 0.004."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Of matrices; embedding, head and norms have none."""
    clip: float = Field(default=1.0, ge=0)
    """Longest gradient; 0 for any."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Of AdamW."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Of AdamW."""
    eps: float = Field(default=1e-8, gt=0)
    """Of AdamW."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Of Muon."""


@dataclass(frozen=True, config=_SETTINGS)
class ScheduleConfig:
    """The course of the learning rate."""

    kind: Literal["wsd", "cosine", "constant"] = "wsd"
    """wsd: warmup, stable, decay; any point of its flat part can be annealed (`train anneal`)."""
    warmup: float = Field(default=0.02, ge=0)
    """Below 1 a share of the run, from 1 on steps."""
    decay: float = Field(default=0.2, ge=0)
    """Of wsd: below 1 a share of the run, from 1 on steps."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Lowest rate after the peak, as a share of it."""


@dataclass(frozen=True, config=_SETTINGS)
class ValidationConfig:
    """Bits per byte of held-out text, by domain."""

    every: int = Field(default=100, ge=0)
    """Steps between validations; 0 for none but the last."""
    tokens: int = Field(default=65_536, ge=1)
    """Of each domain at most, the same each time."""


@dataclass(frozen=True, config=_SETTINGS)
class CheckpointConfig:
    """What is kept on disk."""

    every: int = Field(default=100, ge=1)
    """Steps between checkpoints. The last step, and a signal, write one too."""
    keep_last: int = Field(default=5, ge=5)
    """The newest that are kept: the four of an average and one more, at least."""
    keep_every: int | None = Field(default=None, ge=1)
    """Steps; checkpoints at multiples of it are kept for good."""


@dataclass(frozen=True, config=_SETTINGS)
class GuardConfig:
    """Steps that are skipped because they would do harm."""

    spike: float = Field(default=0.0, ge=0)
    """Skip a step whose loss is so many robust standard deviations above the last ones; 0 for never."""
    stop_after: int = Field(default=20, ge=0)
    """End the run after so many skipped steps in a row; 0 for never."""


@dataclass(frozen=True, config=_SETTINGS)
class DeviceConfig:
    """What it runs on."""

    device: str = "auto"
    """cpu, cuda, or auto: a GPU where there is one."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: each rank a copy of the model, or a shard of it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrices are multiplied in (autocast). auto: bfloat16 on a GPU."""
    compile: bool = False
    """torch.compile: faster on GPUs, no gain on CPUs."""
    recompute: bool = False
    """Activation checkpointing: less memory for a third more work."""
    threads: int | None = Field(default=None, ge=1)
    """Of a CPU; as torch finds best, if absent. Another number may change the last bits."""


@dataclass(frozen=True, config=_SETTINGS)
class TrackConfig:
    """Trackers beside log.jsonl, which is always written."""

    tensorboard: bool = False
    """Event files in the folder of the run."""
    wandb: Literal["wandb", "trackio"] | None = None
    """Weights & Biases, or a tracker with its interface."""
    project: str = "stagewise"
    """Name of the project there."""


@dataclass(frozen=True, config=_SETTINGS)
class EvalConfig:
    """Suites or tasks that are run along the way, on the mean of the last snapshots. Nothing named: none."""

    suites: tuple[str, ...] = ()
    """Suite files; each is run in its stage of compute."""
    tasks: tuple[str, ...] = ()
    """Instead: tasks by name or pattern, such as "skill_*"."""
    metric: str = "bpb"
    """By which tasks named so are watched; all metrics are written in any case."""
    items: int | None = Field(default=None, ge=1)
    """Of each task named so, at most."""
    folders: tuple[str, ...] = ()
    """Folders of benchmark items, beside those registered with `evalsuite tasks --add`."""
    every: int = Field(default=100, ge=0)
    """Steps between evaluations; 0 for none."""
    average: int = Field(default=4, ge=1)
    """Snapshots in a mean; 1 evaluates the weights as they are."""
    spacing: str | int = "auto"
    """Between snapshots: auto follows the run; or such as 50 (steps), "2e6 tokens", "10 minutes"."""
    least: int = Field(default=20, ge=1)
    """Of auto: steps between snapshots, unless they then span too much of the run so far."""
    weights: Literal["uniform", "linear", "ema"] = "uniform"
    """Of the snapshots."""
    where: Literal["disk", "memory"] = "disk"
    """Where snapshots are; those in memory do not survive the process."""
    raw: int = Field(default=0, ge=0)
    """Score the weights as they are, too, beside their mean, at every n-th evaluation; 0 for never."""
    budget: float = Field(default=0.02, ge=0, lt=1)
    """Share of training time that evaluation may take; 0 for no limit."""
    rate: float = Field(default=0.05, ge=0, lt=1)
    """Chance of a false alarm in the whole run; 0 for no alarms."""
    process: bool = False
    """Evaluate in a process of its own while training goes on, from snapshots on disk. On a GPU it takes
    memory of the same card."""


@dataclass(frozen=True, config=_SETTINGS)
class RunConfig:
    """A training run. Its length is given in steps, or in tokens.

    Example:
        >>> RunConfig(steps=100).batch.rows
        16
    """

    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps."""
    tokens: float | None = Field(default=None, gt=0)
    """Instead: training tokens, rounded up to whole steps."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the weights and the order of the data."""
    mixture: dict[str, float | str] = Field(default_factory=dict)
    """Weight of each domain, or such as "0.3 until 40%, then 0". Empty: by the tokens that are there."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Text."""
    model: ModelSection = Field(default_factory=ModelSection)
    """Shape."""
    mtp: MTPConfig = Field(default_factory=MTPConfig)
    """Multi-token prediction."""
    batch: BatchConfig = Field(default_factory=BatchConfig)
    """Rows."""
    optim: OptimConfig = Field(default_factory=OptimConfig)
    """Optimiser."""
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    """Learning rate."""
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    """Held-out text."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """Disk."""
    guard: GuardConfig = Field(default_factory=GuardConfig)
    """Harmful steps."""
    device: DeviceConfig = Field(default_factory=DeviceConfig)
    """Hardware."""
    track: TrackConfig = Field(default_factory=TrackConfig)
    """Trackers."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """Evaluation along the way."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.tokens is None):
            got = "neither" if self.steps is None else "both"
            raise UsageError(
                f"config: got {got} of steps and tokens: give the length of the run, as steps or as tokens "
                "(one of them), such as steps = 1000"
            )

    @property
    def length(self) -> int:
        """Steps of the run."""
        if self.steps is not None:
            return self.steps
        return max(1, -int(-(self.tokens or 0) // (self.batch.rows * self.model.context)))

    def span(self, part: float) -> int:
        """Steps of a part of the run: below 1 a share of it, from 1 on steps."""
        return round(part * self.length) if part < 1 else round(part)


_ADAPTER: list[TypeAdapter[RunConfig]] = []  # built at first use: it takes a while


def read_config(
    path: str | os.PathLike[str] | None = None, settings: Mapping[str, Any] | None = None
) -> RunConfig:
    """A run's settings from a TOML file, and from dotted names that count more.

    Args:
        path: of the file; None for the defaults.
        settings: such as {"optim.lr": 1e-3, "mixture.code": 0.2}.

    Raises:
        UsageError: no such file, not TOML; every unknown key (with the closest known one) and every wrong
            value.

    Example:
        >>> read_config(settings={"steps": 10, "optim.name": "adamw"}).optim.name
        'adamw'
    """
    told: dict[str, Any] = {}
    if path is not None:
        try:
            told = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"{path}: no such file; give the TOML file of a run") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as TOML: {error}") from error
    for name, value in (settings or {}).items():
        *sections, last = name.split(".")
        inner = told
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{name}: {section} is no section")
        inner[last] = value
    return parse_config(told, str(path or "config"), tuple(settings or ()))


def parse_config(told: Mapping[str, Any], where: str, settings: tuple[str, ...] = ()) -> RunConfig:
    """`read_config` for data in memory; `where` stands for the file in messages, but of these settings."""
    told = dict(told)
    data = told.get("data")
    if isinstance(data, dict) and isinstance(data.get("sources"), list):
        # A path alone stands for a source, as in `data.prepare`.
        listed = [{"path": one} if isinstance(one, str) else one for one in data["sources"]]
        told["data"] = {**data, "sources": listed}
    if not _ADAPTER:
        _ADAPTER.append(TypeAdapter(RunConfig))
    try:
        return _ADAPTER[0].validate_python(told)
    except ValidationError as error:
        problems = [_problem(one) for one in error.errors(include_url=False)]
        lines = []
        for name, problem in problems:
            parts = [(f"{one}.", f"{name}.") for one in settings]
            given = any(one.startswith(other) or other.startswith(one) for one, other in parts)
            lines.append(f"{'config' if given else where}: {name}: {problem}")
        raise UsageError("\n".join(lines)) from error


def write_config(config: RunConfig, path: str | os.PathLike[str]) -> None:
    """Write all settings as TOML that `read_config` takes; what is not set is left out."""
    import tomli_w

    with replacing(path) as part:
        part.write_text(tomli_w.dumps(_set(asdict(config))), encoding="utf-8")


def _set(value: Any) -> Any:
    """TOML has no null."""
    if isinstance(value, dict):
        return {key: _set(inner) for key, inner in value.items() if inner is not None}
    return [_set(inner) for inner in value] if isinstance(value, list | tuple) else value


def _problem(one: Any) -> tuple[str, str]:
    """A problem that pydantic found: the setting's name, and words."""
    # Of a union it names the branches it tried, which are no keys.
    place = [str(part) for part in one["loc"] if "[" not in str(part) and part not in _BRANCHES]
    name = ".".join(place)
    if one["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known(place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"valid are {', '.join(known)}"
        return name, f"unknown key; {hint}"
    said = one["msg"][:1].lower() + one["msg"][1:]
    return name, f"got {str(one.get('input'))[:80]!r}: {said}"


def _known(sections: list[str]) -> list[str]:
    """Keys of a section."""
    kind: Any = RunConfig
    for name in sections:
        if not name.isdigit():  # the number of a source in its list
            kind = Source if name == "sources" else get_type_hints(kind).get(name)
    return [one.name for one in fields(kind)] if is_dataclass(kind) else []

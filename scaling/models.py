"""Facts about models whose result files do not say how large they are or how long they were trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from scaling.facts.tables import rows


@dataclass(frozen=True)
class ModelInfo:
    """One row of `scaling/facts/models.csv`.

    Attributes:
        name: a run's unique name, as in the `model` column.
        family: models of one recipe share it.
        params: total parameters N; None where unknown.
        tokens: tokens the finished model was trained on, D.
        tokens_per_step: for checkpoints: D at step s is s times this.
        tokenizer: its name; tokens of different tokenizers are not comparable.
        bytes_per_token: UTF-8 bytes of English text per token.
        reference: where the figures stand.

    Example:
        >>> model_info("pythia-160m@v0").tokens_per_step
        4194304.0
    """

    name: str
    family: str | None = None
    params: float | None = None
    tokens: float | None = None
    tokens_per_step: float | None = None
    tokenizer: str | None = None
    bytes_per_token: float | None = None
    reference: str = ""

    def tokens_at(self, step: int | None) -> float | None:
        """Training tokens at a step; at the end when `step` is None; None where unknown."""
        if step is None:
            return self.tokens
        if step == 0:
            return 0.0
        return step * self.tokens_per_step if self.tokens_per_step else None


@dataclass(frozen=True)
class FoundModel:
    """A model recognised under one of its names; some names also say which variant of the run it is."""

    info: ModelInfo
    variant: str | None


@cache
def _models() -> dict[str, ModelInfo]:
    def number(text: str) -> float | None:
        return float(text) if text else None

    return {
        row["name"]: ModelInfo(
            name=row["name"],
            family=row["family"] or None,
            params=number(row["params"]),
            tokens=number(row["tokens"]),
            tokens_per_step=number(row["tokens_per_step"]),
            tokenizer=row["tokenizer"] or None,
            bytes_per_token=number(row["bytes_per_token"]),
            reference=row["reference"],
        )
        for row in rows("models.csv")
    }


@cache
def _names() -> dict[str, tuple[str, str | None]]:
    return {row["alias"]: (row["name"], row["variant"] or None) for row in rows("model_names.csv")}


def find_model(name: str) -> FoundModel | None:
    """The model that goes by exactly this name (its own, or one in `model_names.csv`); never a near one.

    Example:
        >>> find_model("EleutherAI/pythia-v1.1-70m").info.name
        'pythia-70m@v1'
    """
    if name in _models():
        return FoundModel(_models()[name], None)
    if name in _names():
        own, variant = _names()[name]
        return FoundModel(_models()[own], variant)
    return None


def model_info(name: str) -> ModelInfo:
    """Facts about a model; all unknown for a name the tables do not hold."""
    found = find_model(name)
    return found.info if found else ModelInfo(name)


def known_models() -> tuple[str, ...]:
    """The names in `scaling/facts/models.csv`."""
    return tuple(_models())

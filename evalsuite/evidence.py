"""The figures a decision was made by, as they stand in a suite."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from evalsuite.settings import Entry


def to_six(value: float) -> float:
    return float(f"{value:.6g}")


def to_three(value: float) -> float:
    return float(f"{value:.3g}")


# Rounded as they enter a suite, so that a suite equals the one read back from its file.
Six = Annotated[float, Field(allow_inf_nan=False), AfterValidator(to_six)]
Figure = Annotated[float, Field(allow_inf_nan=False), AfterValidator(to_three)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), AfterValidator(to_three)]
Count = Annotated[int, Field(ge=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]


class Chances(Entry):
    """Probability of each class, from the bootstrap; their sum is 1."""

    early: Share
    late: Share
    saturated: Share
    noisy: Share


class Evidence(Entry):
    """The figures a decision was made by.

    Attributes:
        klass: the class (`class` in the file). p: probability of each.
        opens, closes: FLOPs between which the task is informative; None where there is no window, or
            where the data do not show its end.
        before_data: it is open from the smallest measured compute on, and may have opened earlier.
        dp: decision probability, mean over the stage. covers: share of the stage on which it reaches
            the threshold. measured: share of the stage inside the task's own data (the rest is forecast).
        gain: per doubling of compute, and noise: of one run, both in score.
        runs: how many the curve rests on.
    """

    klass: Literal["early-signal", "late-signal", "saturated", "noisy", "undetermined"] = Field(alias="class")
    p: Chances | None
    opens: Figure | None
    closes: Figure | None
    before_data: bool
    dp: Share | None
    covers: Share
    measured: Share
    gain: Figure | None
    noise: Figure | None
    runs: Count

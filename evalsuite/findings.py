"""What was found out about a suite as a whole, as it stands in its file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from evalsuite.evidence import Count, Figure, Share, Text, to_three
from evalsuite.settings import Entry, Words

# An agreement is a correlation or a share; three digits are more than its interval warrants.
Agreement = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False), AfterValidator(to_three)]


class BudgetLine(Entry):
    """What the suite costs.

    Attributes:
        objective: what tasks were chosen for. budget: as asked, `20%` or tokens.
        tokens: one model reads for the suite. full: for all that qualified, held-out tasks aside.
        error: standard error of the suite's score on the items asked against all items of its tasks, in
            comparable units; 0 where all are asked.
        measured, facts, assumed: how many costs are known from what.
        shrinkage: of the correlations, set by cross-validation; None where nothing was chosen.
    """

    objective: Literal["clusters", "decision-accuracy"]
    budget: Text | None
    tokens: Count
    full: Count
    error: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(to_three)]
    measured: Annotated[int, Field(ge=0)]
    facts: Annotated[int, Field(ge=0)]
    assumed: Annotated[int, Field(ge=0)]
    shrinkage: Share | None


class Choice(Entry):
    """One way to choose, judged on models and benchmarks it had not seen."""

    choice: Text
    agreement: Agreement
    low: Agreement
    high: Agreement
    tasks: Figure
    cost: Share


class QualityLine(Entry):
    """How choosing like this holds up; see `evalsuite.quality.Quality`.

    Attributes:
        measure: `latent agreement` (rank correlation) or `decision accuracy` (share of pairs).
        choices: the suite, all tasks, equally costly random tasks, and others.
        against_all: agreement less that of all tasks, with its 95% interval.
        above: share of equally costly random suites it beats; random_mean_high: the 95th percentile of what
            random choosing reaches on average over the splits.
        splits, groups: how often benchmarks were split, and how many runs (or recipes) there were.
        note: why it was not measured, "" where it was.
    """

    measure: Text
    choices: tuple[Choice, ...] = Field(strict=False)
    against_all: tuple[Agreement, Agreement, Agreement] | None = Field(strict=False)
    above: Share | None
    random_mean_high: Agreement | None
    splits: Annotated[int, Field(ge=0)]
    groups: Annotated[int, Field(ge=0)]
    note: str


class DecisionLine(Entry):
    """How often runs in the stage order recipes as larger runs on the tasks outside the suite do.

    Attributes:
        share, low, high: of the suite's weighted score; all_tasks, random: of the others; None without pairs.
        pairs, recipes, refused: how many. claim: whether there are pairs enough (30) to say more.
        note: what is missing, in words.
    """

    share: Share | None
    low: Share | None
    high: Share | None
    all_tasks: Share | None
    random: Share | None
    pairs: Annotated[int, Field(ge=0)]
    recipes: Annotated[int, Field(ge=0)]
    refused: Annotated[int, Field(ge=0)]
    claim: bool
    note: str


class StabilityLine(Entry):
    """Classes and places without each family in turn.

    Attributes:
        families: how many could be left out. changed: share of tasks whose class changes, mean over families.
        worst, worst_changed: the family that changes most, and the share.
        unstable: share of tasks whose class changes without at least one family.
        places: tasks that enter or leave the suite (before any budget), mean over families.
        note: what could not be left out, in words.
    """

    families: Annotated[int, Field(ge=0)]
    changed: Share | None
    worst: Words | None
    worst_changed: Share | None
    unstable: Share | None
    places: Figure | None
    note: str

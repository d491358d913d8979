"""Scores of small models on some items of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from data.tokenizer import Tokenizer
from evalsuite.measures import summarise
from evalsuite.registry import Registry
from evalsuite.requests import TaskRequests
from evalsuite.scorer import Scorer


@dataclass(frozen=True)
class TaskScores:
    """The same items asked of one model again and again, as its weights change; no solved examples.

    Attributes:
        scorer: of the model. asked: what is asked, by task.

    Example:
        >>> TaskScores.of(model, tokenizer, Registry(), ["skill_copy"], 50).scores()     # doctest: +SKIP
        {'skill_copy': {'bpb': 2.31, 'acc': 0.26}}
    """

    scorer: Scorer = field(repr=False)
    asked: dict[str, TaskRequests] = field(repr=False)

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Tokenizer, registry: Registry, names: Sequence[str], items: int
    ) -> TaskScores:
        """Prepare items.

        Args:
            model: its configuration says how long a context it reads. tokenizer: of its ids.
            registry: where the tasks are. names: of tasks.
            items: of each task at most; those with an answer that the context may not hold are left out.

        Raises:
            StagewiseError: an unknown or broken task.
        """
        scorer = Scorer(model, tokenizer)
        most = scorer.max_length or 0
        asked = {}
        for name in names:
            task = registry.task(name)
            # A token has a byte at least.
            short = [
                one.id
                for one in task.items
                if max(len(text.encode()) for text in (*one.choices, one.answer)) < most
            ]
            asked[name] = scorer.prepare(task.take(ids=short).take(min(items, len(short))), 0)
        return cls(scorer, asked)

    def scores(self, metrics: Sequence[str] = ("bpb", "acc")) -> dict[str, dict[str, float]]:
        """Metrics of the model as it is now, by task; those that a task does not have are left out."""
        self.scorer.check(list(self.asked.values()))
        found = {}
        for name, one in self.asked.items():
            estimates = {each.metric: each.score for each in summarise(self.scorer.score(one)).estimates}
            found[name] = {metric: estimates[metric] for metric in metrics if metric in estimates}
        return found

"""What changed between two suites, and because of which figure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from evalsuite.documents import number
from evalsuite.suite import Dropped, Evidence, HeldOut, Suite, Task, edited, split
from scaling.errors import StagewiseError
from scaling.series import Key
from scaling.tasks import benchmark_of

# Two figures are one when they differ by less than this share: what rounding alone can do.
SAME = 0.005
_Place = Task | HeldOut | Dropped


@dataclass(frozen=True)
class Move:
    """One task that has another place in the second suite.

    Attributes:
        task: its name.
        what: "added", "removed", "held out", "no longer held out", "metric", "shots", "cluster", "items",
            "weight".
        before, after: where it stood and stands.
        because: the figures that changed, or the reason the second suite gives.
    """

    task: str
    what: str
    before: str
    after: str
    because: str

    def __str__(self) -> str:
        return f"{self.task}: {self.what}: {self.before} -> {self.after}" + (
            f" ({self.because})" if self.because else ""
        )


@dataclass(frozen=True)
class Difference:
    """What changed from suite `a` to suite `b`.

    Attributes:
        context: changes of the stage, the scores and the settings, as lines of text.
        moves: tasks with another place, in order of name.
        unmoved: how many tasks of both suites kept their place.
    """

    context: tuple[str, ...]
    moves: tuple[Move, ...]
    unmoved: int

    def __bool__(self) -> bool:
        return bool(self.context or self.moves)

    def lines(self) -> list[tuple[str, ...]]:
        """Task, what, before, after, because; tasks that merely weigh otherwise share a line."""
        told: dict[tuple[str, ...], list[str]] = {}
        for move in self.moves:
            same = (move.what, move.before, move.after, move.because)
            told.setdefault(same if move.what == "weight" else (move.task, *same), []).append(move.task)
        return [
            (tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks", *key[-4:]) for key, tasks in told.items()
        ]

    def to_frame(self):
        """One row per move: task, what, before, after, because."""
        import pandas as pd

        return pd.DataFrame([vars(move) for move in self.moves], columns=list(Move.__dataclass_fields__))

    def __str__(self) -> str:
        lines = [*self.context, *(str(Move(*line)) for line in self.lines())]
        return "\n".join([*lines, f"{self.unmoved} task(s) keep their place"])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def diff(a: Suite, b: Suite) -> Difference:
    """Which tasks moved from `a` to `b`, and because of which figure.

    Clusters are compared by their members: a cluster of `b` is the one of `a` with which it shares
    most tasks, whatever its number.

    Args:
        a, b: the suite before and after.

    Returns:
        The difference; false when nothing moved and the stage, scores and settings are the same.

    Example:
        >>> print(diff(Suite.read("old.yaml"), Suite.read("new.yaml")))        # doctest: +SKIP
        boolq: removed: acc, cluster 2 -> dropped (p_early 0.9 -> 0.4; opens 3.0e+19 -> 8.0e+20)
    """
    before, after = _places(a), _places(b)
    names = _aligned(a, b)
    moves: list[Move] = []
    unmoved = 0
    for task in sorted(set(before) | set(after)):
        found = _move(task, before.get(task), after.get(task), names, (a, b))
        if found is None:
            unmoved += isinstance(after.get(task), Task | HeldOut)
        else:
            moves.append(found)
    return Difference(tuple(_context(a, b)), tuple(moves), unmoved)


def _places(suite: Suite) -> dict[str, _Place]:
    return {item.task: item for item in (*suite.tasks, *suite.held_out, *suite.dropped)}


def _move(
    task: str, old: _Place | None, new: _Place | None, names: dict[int, int], suites: tuple[Suite, Suite]
) -> Move | None:
    was, stands = _where(old), _where(new)
    inside = (isinstance(old, Task | HeldOut), isinstance(new, Task | HeldOut))
    if not any(inside):
        return None
    figures = _figures(old, new)
    if not inside[0]:
        return Move(task, "added", was, stands, figures or (new.reason if new else ""))
    if not inside[1]:
        return Move(
            task, "removed", was, stands, "; ".join(filter(None, [figures, new.reason if new else ""]))
        )
    assert isinstance(old, Task | HeldOut) and isinstance(new, Task | HeldOut)
    if type(old) is not type(new):
        what = "held out" if isinstance(new, HeldOut) else "no longer held out"
        return Move(task, what, was, stands, "; ".join(filter(None, [new.reason, figures])))
    if old.metric != new.metric:
        return Move(task, "metric", old.metric, new.metric, _metric_reason(old, new))
    if old.shots != new.shots:
        return Move(task, "shots", str(old.shots), str(new.shots), _metric_reason(old, new))
    if names.get(new.cluster) != old.cluster:
        return Move(
            task, "cluster", f"cluster {old.cluster}", f"cluster {new.cluster}", "it ranks models otherwise"
        )
    if isinstance(old, Task) and isinstance(new, Task):
        if (old.items, old.item_ids) != (new.items, new.item_ids):
            return Move(task, "items", str(old.items), str(new.items), _items_reason(old, new))
        if abs(old.weight - new.weight) > 1e-5:
            why = _weight_reason(old, new, *suites)
            return Move(task, "weight", number(old.weight, 3), number(new.weight, 3), why)
    return None


def _where(item: _Place | None) -> str:
    if item is None:
        return "no scores"
    if isinstance(item, Dropped):
        return "dropped"
    role = "held out of" if isinstance(item, HeldOut) else "scored in"
    return f"{item.key.metric}, {role} cluster {item.cluster}"


def _items_reason(old: Task, new: Task) -> str:
    if old.items == new.items:
        return "other items are named"
    part = old.of is not None or new.of is not None
    return "the budget is spent otherwise" if part else "the scores are of another number"


def _metric_reason(old: Task | HeldOut, new: Task | HeldOut) -> str:
    """The decision probabilities behind a change of metric or shots, from both suites where they have them.

    Where they are equal to the percent, the order of metrics decided (`Candidate.preference`).
    """
    told = []
    for key in (old.key, new.key):
        shots = "" if key.shots is None else f", {key.shots}-shot"
        told.append(f"DP of {key.metric}{shots} {_dp_of(old, key)} -> {_dp_of(new, key)}")
    return "; ".join(told)


def _dp_of(item: Task | HeldOut, key: Key) -> str:
    if item.key == key:
        return _told(item.evidence.dp)
    other = item.runner_up
    return _told(other.dp) if other and (other.metric, other.shots) == (key.metric, key.shots) else "lower"


def _weight_reason(old: Task, new: Task, a: Suite, b: Suite) -> str:
    if all(suite.budget and suite.budget.objective == "decision-accuracy" for suite in (a, b)):
        names = [[benchmark_of(one.task) for one in suite.tasks] for suite in (a, b)]
        parts = [found.count(benchmark_of(old.task)) for found in names]
        told = [("benchmarks scored", *(len(set(found)) for found in names)), ("its parts", *parts)]
    else:
        pairs = ((old, a), (new, b))
        sizes = [sum(one.cluster == item.cluster for one in suite.tasks) for item, suite in pairs]
        told = [("clusters", len(a.clusters), len(b.clusters)), ("tasks scored in its cluster", *sizes)]
    return "; ".join(f"{name} {before} -> {after}" for name, before, after in told if before != after)


def _figures(old: _Place | None, new: _Place | None) -> str:
    """The figures that differ, as `name before -> after`."""
    if old is None or new is None or old.evidence is None or new.evidence is None:
        return ""
    if old.key != new.key:
        return f"{old.key.metric} stood for it before, {new.key.metric} now"
    a, b = _flat(old.evidence), _flat(new.evidence)
    return "; ".join(
        f"{name} {_told(a[name])} -> {_told(b[name])}" for name in a if not _same(a[name], b[name])
    )


def _flat(evidence: Evidence) -> dict[str, float | str | None]:
    p = evidence.p
    shares = {f"p_{name}": value for name, value in p.model_dump().items()} if p else {}
    names = ("early", "late", "saturated", "noisy")
    return {
        "class": evidence.klass,
        **{f"p_{name}": shares.get(f"p_{name}") for name in names},
        "opens": evidence.opens,
        "closes": evidence.closes,
        "DP": evidence.dp,
        "covers": evidence.covers,
    }


def _same(a: float | str | None, b: float | str | None) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= SAME * max(abs(a), abs(b), 1e-9)
    return a == b


def _told(value: float | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _aligned(a: Suite, b: Suite) -> dict[int, int]:
    """For each cluster of `b` the cluster of `a` it continues; greedy by shared tasks, one to one."""
    before = {item.task: item.cluster for item in (*a.tasks, *a.held_out)}
    shared: dict[tuple[int, int], int] = {}
    for item in (*b.tasks, *b.held_out):
        if item.task in before:
            pair = (item.cluster, before[item.task])
            shared[pair] = shared.get(pair, 0) + 1
    found: dict[int, int] = {}
    for new, old in sorted(shared, key=lambda pair: (-shared[pair], pair)):
        if new not in found and old not in found.values():
            found[new] = old
    return found


def _context(a: Suite, b: Suite):
    """Lines on what the two suites were made from, where that differs."""
    if a.stage != b.stage:
        yield f"stage: {a.stage} -> {b.stage}"
    if a.early_by != b.early_by:
        yield f"early by: {a.early_by:g} -> {b.early_by:g} FLOPs"
    old = {item.source: item for item in a.provenance.sources}
    new = {item.source: item for item in b.provenance.sources}
    for source in sorted(set(old) | set(new)):
        if source not in new:
            yield f"scores: {source} ({old[source].rows:,} rows) is no longer among them"
        elif source not in old:
            yield f"scores: {source} ({new[source].rows:,} rows) came in"
        elif old[source].digest != new[source].digest:
            rows = f"{old[source].rows:,} -> {new[source].rows:,} rows"
            models = f"{old[source].models:,} -> {new[source].models:,} models"
            yield f"scores: {source} changed ({rows}, {models})"
    one, two = a.provenance.settings, b.provenance.settings
    for name in sorted(set(one) | set(two)):
        if one.get(name) != two.get(name):
            yield f"setting {name}: {one.get(name)} -> {two.get(name)}"
    if a.provenance.overrides != b.provenance.overrides:
        kept = set(a.provenance.overrides) & set(b.provenance.overrides)
        for item in (*a.provenance.overrides, *b.provenance.overrides):
            if item not in kept:
                sign = "-" if item in a.provenance.overrides else "+"
                yield f"{sign} override: {item.action} {item.task} ({item.metric}): {item.reason}"


def check(path: str, text: str, fresh: Suite) -> str | None:
    """What differs between the text of a suite file and the suite that follows from the scores now.

    Versions of libraries are no part of it: they follow from the installation, not from the scores.

    Args:
        path: what to call the file. text: its content. fresh: the suite built now.

    Returns:
        None when the file follows from the scores; else a short account of the difference.
    """
    _, body = split(text)
    try:
        old: Suite | None = Suite.parse(text, path)
        broken = ""
    except StagewiseError as error:
        old, broken = None, str(error)
    expected = fresh
    if old is not None:
        provenance = fresh.provenance.model_copy(update={"versions": old.provenance.versions})
        expected = fresh.model_copy(update={"provenance": provenance})
    wanted = expected.body()
    if body == wanted:
        return edited(text)
    told = str(diff(old, fresh)) if old is not None and diff(old, fresh) else broken
    lines = list(
        difflib.unified_diff(body.splitlines(), wanted.splitlines(), path, "from the scores", "", "", 0, "")
    )
    more = [f"... and {len(lines) - 24} more lines"] if len(lines) > 24 else []
    return "\n".join(filter(None, [told, *[line[:160] for line in lines[:24]], *more]))

"""All generated tasks, by name."""

from __future__ import annotations

from difflib import get_close_matches

from evalsuite.skills import (
    agreement,
    arithmetic,
    brackets,
    code,
    copying,
    counting,
    logic,
    ordering,
    sequences,
    strings,
    things,
    world,
)
from evalsuite.skills.generator import Skill, SkillItems
from scaling.errors import UsageError

FAMILIES = (
    agreement, arithmetic, brackets, code, copying, counting, logic, ordering, sequences, strings, things,
    world,
)  # fmt: skip
SKILLS: dict[str, Skill] = {one.name: one for family in FAMILIES for one in family.SKILLS}


def skill_names() -> tuple[str, ...]:
    """Names of all generated tasks, in the order of the alphabet.

    Example:
        >>> "skill_copy" in skill_names()
        True
    """
    return tuple(sorted(SKILLS))


def skill(name: str, seed: int = 0, n_items: int | None = None) -> SkillItems:
    """A generated task with its items.

    Args:
        name: one of `skill_names()`.
        seed: 0 and up; the same seed gives the same items on every machine.
        n_items: how many; the task's own count where absent. Fewer items are the first of more.

    Returns:
        The facts of the task (`.skill`) and its `.items`.

    Raises:
        UsageError: an unknown name, a seed below 0, a count below 1 or above what the task can yield.

    Example:
        >>> task = skill("skill_copy", n_items=100)
        >>> len(task.items), task.skill.chance, task.items[7].id
        (100, 0.25, 'skill_copy/0007')
    """
    if name not in SKILLS:
        near = get_close_matches(str(name), SKILLS, n=5, cutoff=0.5)
        hint = f"near are {', '.join(near)}" if near else f"valid are {', '.join(skill_names())}"
        raise UsageError(f"generated task: got {name!r}; {hint}")
    return SKILLS[name].items(seed, n_items)

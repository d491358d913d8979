"""Skill tasks that the project generates itself, so that a fresh clone can evaluate with nothing else.

Small closed skills from copying to two-hop questions, with a range of difficulty for models of 1M to 1B
parameters. Every item is a function of (task, seed, number) alone.

**Whose seeds.** Seeds 0 and up belong to evaluation: scores are reported on seed 0, further seeds are fresh
items of the same tasks. Text to train on never comes from here: it has templates of its own, and seeds below
0, which :func:`skill` refuses. Two templates can still meet in one string, so overlap is checked against the
items themselves, where text is prepared for training.

**How choices are drawn.** First the choices, alike among each other; then which of them is right, each as
likely as the next; then the question that makes it right. So nothing about the choices alone (length,
position, frequency) gives the answer away.
"""

from __future__ import annotations

from evalsuite.skills.catalogue import skill, skill_names
from evalsuite.skills.generator import Skill, SkillItems

__all__ = ["Skill", "SkillItems", "skill", "skill_names"]

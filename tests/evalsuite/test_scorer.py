"""Scoring tasks. Oracle: lm-eval's HFLM on the same model and tokenizer, request by request."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evalsuite.engine import Mode
from evalsuite.items import Item
from evalsuite.requests import Requests
from evalsuite.scorer import Scorer
from evalsuite.skills import skill, skill_names
from evalsuite.tasks import Task
from scaling.errors import StagewiseError, UsageError
from scaling.tasks import TaskInfo
from tests.evalsuite.modules import Breaks, Bytes, Forbids, IgnoresMask, Masked, Toy, naive
from tests.evalsuite.tiny import END, VOCABULARY, tiny_llama, tiny_tokenizer

# Whether half precision is fast here is measured, and told by a warning where it is not.
pytestmark = pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")


@lru_cache
def model():
    return tiny_llama()


@lru_cache
def tokenizer():
    return tiny_tokenizer()


@lru_cache
def harness(max_length: int):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model(), tokenizer=tokenizer(), batch_size=16, max_length=max_length, device="cpu")  # type: ignore[arg-type]


def skill_task(name: str, count: int = 12) -> Task:
    made = skill(name, n_items=count)
    facts = made.skill
    return Task(
        name, made.items, TaskInfo(name), delimiter=facts.delimiter, prefix=facts.prefix,
        prefix_shots=facts.prefix_shots,
    )  # fmt: skip


def texts(task: Task, shots: int) -> list[tuple[str, str]]:
    """What lm-eval is asked: prefix + context, and delimiter + choice, by the words of the task."""
    prefix = task.prefix if shots else ""
    found = []
    for item in task.items:
        parts = [(one, item.continuation) for one in item.option_contexts]
        parts = parts or [(item.context, choice) for choice in item.choices or (item.answer,)]
        found += [(prefix + context, task.delimiter + answer) for context, answer in parts]
    return found


def equals_lm_eval(task: Task, shots: int, max_length: int = 512) -> None:
    asked = [SimpleNamespace(args=pair) for pair in texts(task, shots)]
    expected = harness(max_length).loglikelihood(asked, disable_tqdm=True)  # type: ignore[arg-type]
    scorer = Scorer(model(), tokenizer(), max_length=max_length)
    found = scorer.score(scorer.prepare(task, shots))
    ll, greedy = found.ll[found.answered], found.greedy[found.answered]
    theirs = np.array([one for one, _ in expected])
    # 1e-6 of the log-likelihood, or 1e-5 nats a token: the promise of the design.
    allowed = np.maximum(1e-6 * np.abs(theirs), 1e-5 * found.tokens[found.answered])
    np.testing.assert_array_less(np.abs(ll - theirs), allowed)
    assert greedy.tolist() == [hit for _, hit in expected]
    table = np.full(found.ll.shape, -np.inf)
    table[found.answered] = theirs
    assert (
        np.where(found.answered, found.ll, -np.inf).argmax(axis=1).tolist() == table.argmax(axis=1).tolist()
    )


@pytest.mark.parametrize("name", skill_names())
def test_skills_score_as_in_lm_eval(name):
    equals_lm_eval(skill_task(name, 6), 0)


@pytest.mark.parametrize("name", skill_names()[::4])
def test_skills_with_solved_examples_score_as_in_lm_eval(name):
    task = skill_task(name, 6)
    equals_lm_eval(task, task.prefix_shots)


@pytest.mark.parametrize("max_length", [20, 45])
def test_truncation_is_that_of_lm_eval(max_length):
    for name in ("skill_copy", skill_names()[0]):
        task = skill_task(name)
        equals_lm_eval(task, task.prefix_shots, max_length)


HARD = Task(
    "hard",
    (
        Item("empty", "", ("yes", "no"), 0, "yes"),
        Item("blanks", "The sky is  ", ("blue", "green grass"), 0, "blue"),
        Item("line", "Answer:\n\n", ("blue", "green"), 0, "blue"),
        Item("bos", f"{END}The sky is", ("blue", "green"), 1, "green"),
        Item("split", "caf\u00e9 \U0001f44d", ("\U0001f3fd", "\u0301x", "\u8a9e"), 2, "\u8a9e"),
        Item("same", "x", ("y", "y", "y z"), 2, "y z"),
        Item(
            "parts", "", ("A", "B"), 1, "B", option_contexts=("A ran as", "B ran as"), continuation="he won"
        ),
        Item("free", "def f():\n   ", (), -1, "return 1\n"),
    ),
    TaskInfo("hard"),
    prefix="One example.\n\nAnd another one, longer.\n\n",
    prefix_shots=2,
)


@pytest.mark.parametrize("delimiter", [" ", ""])
@pytest.mark.parametrize("shots", [0, 2])
def test_awkward_text_scores_as_in_lm_eval(delimiter, shots):
    equals_lm_eval(replace(HARD, delimiter=delimiter), shots)


def test_a_cached_beginning_changes_nothing():
    """Oracle: the modes without a cache."""
    task = skill_task("skill_copy", 40)
    exact = tiny_llama(dtype=torch.float64)
    found = {}
    for mode in (Mode(True, True, "chunks"), Mode(True, False, "chunks"), Mode()):
        scorer = Scorer(exact, tokenizer(), modes=[mode])
        asked = scorer.prepare(task)
        found[mode] = scorer.score(asked).ll
        assert scorer.parity is not None and scorer.parity.mode == mode
        assert (len(next(iter(asked.requests.plans.values())).prefix) > 0) == mode.cached
    plain = found.pop(Mode())
    for mode, ll in found.items():
        np.testing.assert_allclose(ll, plain, rtol=1e-10, atol=1e-10, err_msg=str(mode))


def test_the_right_answer_alone_has_the_same_likelihood():
    task = skill_task("skill_copy")
    scorer = Scorer(model(), tokenizer())
    whole, part = scorer.score(task), scorer.score(scorer.prepare(task, gold_only=True))
    np.testing.assert_allclose(part.gold_of(part.ll), whole.gold_of(whole.ll), rtol=2e-6)
    assert part.answered.sum() == len(task.items)


def test_a_second_checkpoint_needs_no_tokenizer():
    scorer = Scorer(tiny_llama(), tokenizer())
    asked = scorer.prepare(skill_task("skill_copy"))
    first = scorer.score(asked)
    plans = dict(asked.requests.plans)
    other = Scorer(tiny_llama(seed=1), SimpleNamespace(encode=None, bos_token_id=0))
    second = other.score(asked)
    assert not np.allclose(first.ll, second.ll, equal_nan=True)
    assert all(asked.requests.plans[key] is plan for key, plan in plans.items())  # nor another plan
    np.testing.assert_array_equal(scorer.score(asked).ll, first.ll)  # and the first left no trace


def test_the_same_bits_twice():
    scorer = Scorer(model(), tokenizer())
    task = skill_task("skill_copy")
    one, other = scorer.score(task), Scorer(model(), tokenizer()).score(task)
    np.testing.assert_array_equal(one.ll, other.ll)
    np.testing.assert_array_equal(scorer.score(task).ll, one.ll)


def test_plans_do_not_pile_up():
    scorer = Scorer(model(), tokenizer())
    asked = scorer.prepare(skill_task("skill_copy"))
    for _ in range(3):
        scorer.score(asked)
    assert len(asked.requests.plans) == 1


def test_progress_is_told_to_the_end():
    seen: list[tuple[int, int]] = []
    scorer = Scorer(model(), tokenizer(), budget=200)
    scorer.score(skill_task("skill_copy"), progress=lambda done, whole: seen.append((done, whole)))
    done = [one for one, _ in seen]
    assert len(seen) > 3 and done == sorted(done) and len({whole for _, whole in seen}) == 1
    assert 0.9 * seen[-1][1] <= done[-1] <= seen[-1][1]


# --- what goes wrong ------------------------------------------------------------------------------

BYTES = Task(
    "bytes",
    (
        *(Item(f"i{n}", "a question", (f"a{n}", "bb"), 0, f"a{n}") for n in range(6)),
        Item("bell", "rings it \x07", ("a", "b"), 1, "b"),
        Item("last", "a", ("a", "b"), 1, "b"),
    ),
    TaskInfo("bytes"),
)


def test_logits_that_are_not_numbers_name_task_and_item():
    scorer = Scorer(Breaks(vocabulary=257), Bytes())
    with pytest.raises(
        StagewiseError, match=r"task bytes, item 'bell': got a log-likelihood of nan(.|\n)*NaN"
    ):
        scorer.score(BYTES)
    # The next task is scored as if nothing had been.
    rest = replace(BYTES, items=tuple(item for item in BYTES.items if item.id != "bell"))
    assert np.isfinite(scorer.score(rest).ll).all()


def test_a_change_after_the_head_that_no_sample_shows():
    """The id after which the model changes its logits stands in one item of many."""
    many = tuple(replace(item, id=f"{item.id}/{n}") for n in range(6) for item in BYTES.items[:-2])
    task = replace(BYTES, items=(*many, *BYTES.items[-2:]))
    toy = Forbids(vocabulary=257)
    scorer = Scorer(toy, Bytes())
    asked = scorer.prepare(task)
    found = scorer.score(asked)
    expected = naive(toy, asked.requests)[0]
    np.testing.assert_allclose(found.ll[found.answered], expected, rtol=2e-6, atol=1e-5)


def test_a_model_of_which_nothing_is_a_number():
    broken = Toy(vocabulary=257)
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)
    with pytest.raises(StagewiseError, match="task bytes, item 'i0'"):
        Scorer(broken, Bytes()).score(BYTES)


def test_weights_that_break_after_the_check_name_the_item():
    toy = Toy(vocabulary=257)
    scorer = Scorer(toy, Bytes())
    scorer.score(BYTES)
    toy.head.weight.data[98] = torch.nan  # past what counts writes: the verdict stands
    with pytest.raises(StagewiseError, match="task bytes, item 'i0'"):
        scorer.score(BYTES)


def test_infinite_logits_name_the_item():
    broken = Toy(vocabulary=257)
    with torch.no_grad():
        broken.head.weight.mul_(1e38)
    with pytest.raises(StagewiseError, match="task bytes, item 'i0'"):
        Scorer(broken, Bytes()).score(BYTES)


def test_a_vocabulary_smaller_than_the_tokenizers():
    known = VOCABULARY // 2
    scorer = Scorer(tiny_llama(vocab=known), tokenizer())
    with pytest.raises(
        StagewiseError, match=rf"task \w+, item .*the tokenizer gives the id \d+(.|\n)*0 to {known - 1}"
    ):
        scorer.prepare(skill_task("skill_copy"))
    # More positions than ids hide nothing.
    with pytest.raises(StagewiseError, match=r"task bytes, item(.|\n)*0 to 99"):
        Scorer(Toy(vocabulary=100, length=512), Bytes()).score(BYTES)


def test_requests_of_a_longer_model_are_refused():
    """Prepared for 512 tokens and 257 ids, given to models of fewer."""
    asked = Scorer(Masked(vocabulary=257), Bytes()).prepare(BYTES)
    with pytest.raises(StagewiseError, match="tokens, valid is up to 8"):
        Scorer(Masked(vocabulary=257, length=8), Bytes()).score(asked)
    with pytest.raises(StagewiseError):
        Scorer(Masked(vocabulary=100), Bytes()).score(asked)


def test_impossible_settings():
    with pytest.raises(UsageError, match="valid is 1 or more"):
        Scorer(model(), tokenizer(), max_length=-1)
    with pytest.raises(UsageError, match="valid is 1 or more"):
        Scorer(model(), tokenizer(), budget=-5)
    with pytest.raises(UsageError, match="max_length"):
        Scorer(model(), tokenizer(), max_length=0)


def test_positions_that_the_model_lacks_are_told():
    """A length that was said and is not there is no IndexError from inside the model."""
    scorer = Scorer(Toy(vocabulary=257, length=8), Bytes(), max_length=4096)
    with pytest.raises(
        StagewiseError, match=r"model: given ids \[1, .* it raised IndexError(.|\n)*max_length"
    ):
        scorer.score(BYTES)


def test_nothing_asked_is_nothing_scored():
    none = Requests([], [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), 10)
    ll, greedy = Scorer(Toy(), Bytes()).loglikelihoods(none)
    assert len(ll) == len(greedy) == 0


def test_tasks_of_a_suite_in_any_order():
    """Free answers, choices and a common beginning in turn on a model that must not be packed."""
    toy = IgnoresMask(vocabulary=257)
    free = replace(BYTES, name="free", items=tuple(
        Item(item.id, item.context * 2, (), -1, item.answer) for item in BYTES.items
    ))  # fmt: skip
    shot = replace(BYTES, name="shot", prefix="one example, solved\n\n", prefix_shots=1)
    for tasks in ((free, BYTES, shot), (BYTES, free, shot), (shot, free, BYTES)):
        scorer = Scorer(toy, Bytes())
        for task in tasks:
            asked = scorer.prepare(task)
            found, expected = scorer.score(asked), naive(toy, asked.requests)[0]
            np.testing.assert_allclose(
                found.ll[found.answered], expected, rtol=2e-6, atol=1e-5, err_msg=task.name
            )


@pytest.mark.parametrize("fast", [False, True])
def test_slow_half_precision_is_told(fast, monkeypatch, recwarn):
    monkeypatch.setattr("evalsuite.scorer.fast_half", lambda *_: fast)
    Scorer(model(), tokenizer(), autocast=torch.bfloat16)
    assert [str(one.message)[:26] for one in recwarn] == ([] if fast else ["autocast to torch.bfloat16"])

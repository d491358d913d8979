"""Whatever a model does with masks, positions and caches, its numbers are those of the naive way.

Oracle everywhere: `modules.naive`, each request alone through the model and log_softmax in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalsuite.engine import Mode
from evalsuite.scorer import Scorer
from tests.evalsuite import modules
from tests.evalsuite.modules import Bytes, Masked, Toy, naive, questions

# Whether half precision is fast here is measured, and told by a warning where it is not.
pytestmark = pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")

PLAIN = Mode(head="chunks")
CHOICE = questions(1)
FREE = questions(2, answers=1)
FEWSHOT = questions(3, shared=20, context=(2, 6))
LONG_FREE = questions(4, answers=1, context=(60, 80))
LONG_CHOICE = questions(5, context=(60, 80))


def scores_as_the_naive_way(model, *asked, rtol: float = 2e-6, **options) -> Scorer:
    """One scorer asked several things in turn, as a run asks the tasks of a suite."""
    scorer = Scorer(model, Bytes(), **options)
    for requests in asked:
        ll, greedy = scorer.loglikelihoods(requests)
        expected, likeliest = naive(model, requests)
        np.testing.assert_allclose(ll, expected, rtol=rtol, atol=1e-5)
        np.testing.assert_array_equal(greedy, likeliest)
    return scorer


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("Toy", PLAIN),
        ("ReturnsTuple", PLAIN),
        ("ReturnsObject", PLAIN),
        ("Masked", Mode(packed=True, head="chunks")),
        ("SoftCapped", Mode(packed=True, head="scored")),
        ("IgnoresMask", PLAIN),
        ("IgnoresPositions", PLAIN),
        ("HalfMasked", PLAIN),
        ("Leaks", PLAIN),
        ("RefusesMask", PLAIN),
        ("ForgetsCache", Mode(packed=True, head="chunks")),
    ],
)
def test_each_model_gets_the_mode_that_it_deserves(kind, mode):
    scorer = scores_as_the_naive_way(getattr(modules, kind)(), CHOICE, FEWSHOT)
    assert scorer.parity is not None and scorer.parity.mode == mode


WRONG = ("IgnoresMask", "IgnoresPositions", "HalfMasked", "Leaks", "RowWindow", "ForgetsCache")


@pytest.mark.parametrize("kind", WRONG)
def test_free_answers_share_rows_too(kind):
    """One answer an item: no item branches by itself, rows of several items do."""
    scores_as_the_naive_way(getattr(modules, kind)(), FREE)


@pytest.mark.parametrize("kind", WRONG)
def test_a_verdict_on_one_task_is_not_taken_for_another(kind):
    """The first task shows neither branches nor a cache, and has the longer requests."""
    scores_as_the_naive_way(getattr(modules, kind)(), LONG_FREE, CHOICE, FEWSHOT)
    scores_as_the_naive_way(getattr(modules, kind)(), LONG_CHOICE, FREE, FEWSHOT)


@pytest.mark.parametrize("kind", WRONG)
def test_longer_requests_are_checked_again(kind):
    scores_as_the_naive_way(getattr(modules, kind)(), CHOICE, LONG_CHOICE, LONG_FREE)


def test_rows_of_several_items_are_shown_to_the_model():
    """A window over the places of a row is right for each item alone, wrong for a row of several."""
    scores_as_the_naive_way(modules.RowWindow(), questions(6, items=20, context=(5, 10)))


def test_the_untried_model_is_not_the_trained_one():
    """Residual branches that start at zero are common: at step 0 no answer depends on what a token sees."""
    for kind in ("IgnoresMask", "IgnoresPositions"):
        model = getattr(modules, kind)()
        trained = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for layer in model.out:
                layer.weight.zero_()
            model.place.weight.zero_()
        scorer = scores_as_the_naive_way(model, CHOICE)
        model.load_state_dict(trained)
        ll, _ = scorer.loglikelihoods(CHOICE)
        np.testing.assert_allclose(ll, naive(model, CHOICE)[0], rtol=2e-6, atol=1e-5, err_msg=kind)


def test_small_logits_hide_a_cap_that_large_ones_meet():
    model = modules.SoftCapped()
    trained = model.head.weight.detach().clone()
    with torch.no_grad():
        model.head.weight.mul_(1e-4)
    scorer = scores_as_the_naive_way(model, CHOICE)
    with torch.no_grad():
        model.head.weight.copy_(trained)
    ll, _ = scorer.loglikelihoods(CHOICE)
    np.testing.assert_allclose(ll, naive(model, CHOICE)[0], rtol=2e-6, atol=1e-5)


def test_a_model_whose_rows_see_each_other_is_not_scored_wrongly():
    """One row at a time is right, or an error that says so."""
    from scaling.errors import StagewiseError

    try:
        scores_as_the_naive_way(modules.SeesBatch(), CHOICE)
    except StagewiseError as error:
        assert "batch" in str(error)


class TwoWay(Toy):
    """Each token sees those after it as well: padding is seen too."""

    def forward(self, ids):
        t = ids.shape[1]
        return self.head(self.hidden(ids, [torch.zeros(1, 1, t, t)] * 2))


def test_a_model_that_looks_ahead_is_not_scored_wrongly():
    from scaling.errors import StagewiseError

    try:
        scores_as_the_naive_way(TwoWay(), CHOICE)
    except StagewiseError as error:
        assert "causal" in str(error) or "batch" in str(error)


@pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")  # on a machine without fast bfloat16
@pytest.mark.parametrize("kind", ["IgnoresMask", "IgnoresPositions", "HalfMasked"])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_does_not_hide_what_is_wrong(kind, autocast):
    model = getattr(modules, kind)()
    if not autocast:
        model = model.to(torch.bfloat16)
    scorer = Scorer(model, Bytes(), autocast=torch.bfloat16 if autocast else None)
    scorer.loglikelihoods(CHOICE)
    assert scorer.parity is not None and not scorer.parity.mode.packed


def test_half_precision_packs_an_honest_model():
    model = Masked().to(torch.bfloat16)
    scorer = Scorer(model, Bytes())
    ll, _ = scorer.loglikelihoods(CHOICE)
    assert scorer.parity is not None and scorer.parity.mode.packed
    np.testing.assert_allclose(ll, naive(model, CHOICE)[0], rtol=0.02, atol=0.05)


def test_the_verdict_in_words():
    scorer = Scorer(modules.RefusesMask(), Bytes())
    scorer.loglikelihoods(CHOICE)
    assert scorer.parity is not None
    words = scorer.parity.words
    assert words.startswith("head chunks: checked ") and "NotImplementedError: no masks here" in words
    assert "\n" not in words
    assert str(Mode()) == "plain" and str(Mode(True, True, "scored")) == "packed + cached + head scored"


def test_nothing_but_the_plain_mode_where_only_that_may_be_tried():
    scorer = scores_as_the_naive_way(Masked(), CHOICE, FREE, FEWSHOT, modes=[Mode()])
    assert scorer.parity is not None and scorer.parity.mode == Mode() and not scorer.parity.refused


def test_a_model_with_too_few_positions_for_a_joined_row():
    """Rows of several items hold more tokens than the model can read; no token stands deeper than it can."""
    scores_as_the_naive_way(Masked(length=48), questions(7, items=40, context=(5, 20)))


@pytest.mark.parametrize("budget", [1, 37, 300, 100_000])
@pytest.mark.parametrize("kind", ["Toy", "Masked"])
def test_the_budget_of_a_batch_changes_nothing(kind, budget):
    scores_as_the_naive_way(getattr(modules, kind)(), CHOICE, FREE, FEWSHOT, budget=budget)

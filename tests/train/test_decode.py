"""Greedy and self-speculative decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.errors import UsageError
from train.decode import acceptance, greedy, speculative
from train.model import ModelConfig, initialise
from train.mtp import TrainedModel, target_counts

CONFIG = ModelConfig(
    vocab_size=11, width=16, layers=2, heads=2, kv_heads=1, head_width=8, hidden=32, context_length=48
)
PERIOD = 7
EOS = 10


def built(depth: int, seed: int = 0, eos: int | None = None) -> TrainedModel:
    """A small model whose ids are far apart: rounding decides nothing."""
    model = TrainedModel(CONFIG, depth, eos)
    initialise(model, CONFIG.layers, seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(10)
    return model


def text(rows: int, seed: int) -> torch.Tensor:
    """Rows that count modulo `PERIOD` from a random number on: each id follows from the one before."""
    first = np.random.default_rng(seed).integers(PERIOD, size=(rows, 1))
    return torch.from_numpy((first + np.arange(25)) % PERIOD)


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """Two depths, trained on `text` until they know it."""
    model = TrainedModel(CONFIG, 2)
    initialise(model, CONFIG.layers, 0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(80):
        rows = text(8, step)
        losses = model(rows, losses="sums")
        (losses / target_counts(rows, 2, None)).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def plainly(model: TrainedModel, prompt: list[int], most: int, eos: int | None = None) -> list[int]:
    """The oracle: all ids read anew for each one, no cache, no drafts."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + most and (eos is None or ids[-1] != eos or len(ids) == len(prompt)):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@given(
    depth=st.integers(0, 3),
    prompt=st.lists(st.integers(0, 10), min_size=1, max_size=9),
    most=st.integers(1, 24),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_both_give_what_reading_everything_anew_gives(depth, prompt, most, seed):
    """Oracle: argmax of a full forward pass for every id; any depth, length and prompt, end or none."""
    model = built(depth, seed)
    free = plainly(model, prompt, most)
    for eos in (None, free[len(free) // 2]):
        wanted = tuple(plainly(model, prompt, most, eos))
        told = greedy(model, prompt, most, eos)
        assert told.ids == wanted
        assert (told.drafted, told.accepted, told.passes) == (0, 0, len(wanted))
        if depth:
            drafted = speculative(model, prompt, most, eos)
            assert drafted.ids == wanted
            assert drafted.accepted <= drafted.drafted <= depth * drafted.passes
            # A pass gives one id of its own beside the drafts it accepts, unless an accepted one is the end.
            assert drafted.passes + drafted.accepted - len(wanted) in ((0,) if eos is None else (0, 1))


def test_drafts_are_those_of_the_modules_on_the_same_text():
    """Oracle: `TrainedModel.drafts`, which trains the modules, on all text so far, for each draft anew."""
    model, prompt, most = built(3, seed=4), [3, 1, 4, 1], 30
    told = speculative(model, prompt, most)
    ids, given, passes, drafted, accepted = list(prompt), plainly(model, prompt, most), 1, 0, 0
    ids.append(given[0])
    while (left := len(prompt) + most - len(ids)) > 0:
        drafts: list[int] = []
        for k in range(1, min(3, left - 1) + 1):
            # The last place of depth k is that of the last id but one, and reads the drafts so far.
            row = torch.tensor([[*ids, *drafts, 0]])
            with torch.no_grad():
                hidden, _ = model.hidden(row[:, :-1])
                h = model.drafts(row, hidden)[k - 1][:, len(ids) - 2]
                drafts.append(int(model.lm_head(model.mtp[k - 1].norm(h)).argmax()))  # pyright: ignore[reportCallIssue]
        own = given[len(ids) - len(prompt) :]
        kept = next((i for i, draft in enumerate(drafts) if draft != own[i]), len(drafts))
        ids += own[: kept + 1]
        passes, drafted, accepted = passes + 1, drafted + len(drafts), accepted + kept
    assert (told.drafted, told.accepted, told.passes) == (drafted, accepted, passes)


def test_a_model_that_knows_its_text_accepts_its_drafts(trained):
    """Planted: text in which each id follows from the one before; the untrained model has no such text."""
    raw = TrainedModel(CONFIG, 2)
    initialise(raw, CONFIG.layers, 0)
    told = speculative(trained, [3, 4, 5], most=40)
    assert told.ids == tuple((6 + i) % PERIOD for i in range(40))
    assert told.acceptance > 0.95
    assert told.passes <= 1 + -(-39 // 3) + 1
    held_out = text(16, 10_000)
    assert (acceptance(trained, held_out) > 0.95).all()
    assert (acceptance(raw, held_out) < 0.6).all()
    assert speculative(raw, [3, 4, 5], most=40).acceptance < 0.6


@pytest.mark.parametrize("eos", [None, EOS])
def test_acceptance_is_the_share_of_places_that_agree(eos):
    """Oracle: place by place, the main model's argmax beside the module's, where no document ends between."""
    model = built(2, seed=1, eos=eos)
    rows = torch.from_numpy(np.random.default_rng(0).integers(11, size=(9, 20)))
    agreed, places = np.zeros(2), np.zeros(2)
    with torch.no_grad():
        hidden, _ = model.hidden(rows[:, :-1])
        own = model(rows[:, :-1]).logits.argmax(-1)
        for k, h in enumerate(model.drafts(rows, hidden), 1):
            draft = model.lm_head(model.mtp[k - 1].norm(h)).argmax(-1)  # pyright: ignore[reportCallIssue]
            for r in range(len(rows)):
                for i in range(rows.shape[1] - 1 - k):
                    if eos is None or eos not in rows[r, i + 1 : i + k + 1].tolist():
                        agreed[k - 1] += int(draft[r, i] == own[r, i + k])
                        places[k - 1] += 1
    np.testing.assert_allclose(acceptance(model, rows.numpy()), agreed / places)


def test_acceptance_foretells_what_decoding_accepts():
    """Oracle: decoding one draft at a time from every place of a text, each accepted or not."""
    model = built(1, seed=2)
    row = np.random.default_rng(1).integers(11, size=40)
    accepted = 0
    for end in range(1, 39):
        with torch.no_grad():
            ids = torch.tensor([[*row[:end], row[end], 0]])
            hidden, _ = model.hidden(ids[:, :-1])
            draft = int(model.lm_head(model.mtp[0].norm(model.drafts(ids, hidden)[0][:, -1])).argmax())  # pyright: ignore[reportCallIssue]
        accepted += draft == greedy(model, row[: end + 1].tolist(), 1).ids[0]
    assert float(acceptance(model, row[None])[0]) == pytest.approx(accepted / 38)


def test_what_cannot_be_decoded_is_refused():
    model = built(1)
    for prompt, most in (([], 3), ([1], 0), ([1] * 40, 10)):
        with pytest.raises(UsageError, match="a prompt of"):
            greedy(model, prompt, most)
    assert len(speculative(model, [1] * 40, 9).ids) == 9  # up to the context, and one more that is not read
    for call in (lambda: speculative(built(0), [1], 3), lambda: acceptance(built(0), text(2, 0))):
        with pytest.raises(UsageError, match="no modules"):
            call()
    with pytest.raises(UsageError, match="3 tokens or more"):
        acceptance(model, torch.zeros(2, 2, dtype=torch.long))


def test_the_results_say_what_they_are():
    told = greedy(built(0), [1], 3)
    assert np.isnan(told.acceptance)
    assert told.to_frame()["passes"].item() == 3
    assert "passes" in told._repr_html_()

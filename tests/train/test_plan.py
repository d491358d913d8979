"""A run worked out: what follows from its settings and data, and a branch of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.mixture import Mixture
from data.prepare import prepare
from data.prepared import Prepared
from data.sources import Source
from scaling.errors import UsageError
from train.config import RunConfig, read_config, write_config
from train.plan import Plan
from train.sizes import PRESETS, preset

CONTEXT = 16


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    """Two domains of 60 and 30 documents, bytes as tokens."""
    folder = tmp_path_factory.mktemp("plan")
    chance = np.random.default_rng(0)
    for name, count in (("code", 60), ("prose", 30)):
        rows = [{"text": f"{name} {i} " + "x" * int(chance.integers(5, 60))} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    sources = [Source(str(folder / f"{name}.jsonl"), domain=name) for name in ("code", "prose")]
    return prepare(sources, folder / "tokens", tokenizer="bytes", held_out=0.2)


def config(steps: int = 100, **told: Any) -> RunConfig:
    base = {"steps": steps, "model.preset": "0.1m", "model.context": CONTEXT, "batch.rows": 4}
    return read_config(settings=base | {name.replace("__", "."): value for name, value in told.items()})


# --- what follows ---------------------------------------------------------------------------------------


def test_what_is_filled_in(prepared):
    plan = Plan.of(config(), prepared)
    assert plan.shape == preset("0.1m", vocab_size=257, context_length=CONTEXT)
    assert plan.config.steps == 100 and plan.config.optim.lr == 0.004
    # By the tokens that are there.
    sizes = {name: len(one) for name, one in prepared.tokens("train").items()}
    assert plan.config.mixture == sizes
    total = sum(sizes.values())
    assert plan.phases.weights == (tuple(sizes[name] / total for name in plan.phases.domains),)
    assert plan.tokens_per_step == 64
    assert plan.size.params == 257 * 64 + plan.size.blocks


@pytest.mark.parametrize("name", ["0.1m", "2.7m", "14m", "85m", "1b"])
def test_the_rate_of_a_width(prepared, name):
    """Oracle: as documented: 0.003 at a width of 192, less in proportion above, never over 0.004."""
    width = PRESETS[name][1]
    plan = Plan.of(config(model__preset=name), prepared)
    assert plan.config.optim.lr == pytest.approx(min(0.004, 0.003 * 192 / width))
    assert Plan.of(config(model__preset=name, optim__lr=0.5), prepared).config.optim.lr == 0.5
    assert plan.schedule.peak == plan.config.optim.lr


def test_tokens_become_steps(prepared):
    told = read_config(
        settings={"tokens": 1000, "model.preset": "0.1m", "model.context": CONTEXT, "batch.rows": 4}
    )
    plan = Plan.of(told, prepared)
    assert plan.config.steps == 16 and plan.config.tokens is None


MIXTURE = {"code": "0.3 until 40%, then 0.1 until 70%, then 0", "prose": 0.7}


def test_a_plan_of_its_own_settings_is_the_same(prepared, tmp_path):
    """What resume relies on: settings as written give the same plan."""
    plan = Plan.of(config(90, mixture=MIXTURE, mtp__depth=1, mtp__weight="0.3 until 67%, then 0.1"), prepared)
    write_config(plan.config, tmp_path / "config.toml")
    again = Plan.of(read_config(tmp_path / "config.toml"), prepared)
    assert again.config == plan.config and again.phases == plan.phases and again.schedule == plan.schedule


@pytest.mark.parametrize("percent", ["12.34561", "33.3333333", "0.00001", "66.666666667"])
def test_a_change_point_goes_through_a_file(prepared, tmp_path, percent):
    """Oracle: the phases of the run that wrote it; a run of a million steps, and shares of many digits."""
    told = config(1_000_000, mixture={"code": f"0.5 until {percent}%, then 0", "prose": 0.5})
    plan = Plan.of(told, prepared)
    write_config(plan.config, tmp_path / "config.toml")
    assert Plan.of(read_config(tmp_path / "config.toml"), prepared).phases == plan.phases


def test_batches_and_validation_fit_the_model(prepared):
    plan = Plan.of(config(validation__tokens=40, batch__micro=2), prepared)
    assert plan.batches().batch(0).ids.shape == (4, CONTEXT + 1)
    assert plan.batches().stride == CONTEXT
    for _, batches in plan.validation().parts:
        assert sum(one[:, 1:].size for one in batches) == 40
        assert all(len(one) <= 2 and one.shape[1] <= CONTEXT + 1 for one in batches)


def test_the_schedule_in_steps(prepared):
    plan = Plan.of(config(200, schedule__warmup=0.1, schedule__decay=50.0, schedule__floor=0.1), prepared)
    assert (plan.schedule.warmup, plan.schedule.decay, plan.schedule.floor) == (20, 50, 0.1)
    assert Plan.of(config(200, schedule__kind="cosine", schedule__decay=1000.0), prepared).schedule.decay == 0


def test_the_weight_of_deeper_prediction(prepared):
    """Oracle: by hand; a step belongs to what comes after where step / steps reaches the share."""
    plan = Plan.of(
        config(10, mtp__depth=1, mtp__weight="0.3 until 67%, then 0.1 until step 9, then 0"), prepared
    )
    assert [plan.mtp_weight(step) for step in range(10)] == [0.3] * 7 + [0.1] * 2 + [0.0]
    assert Plan.of(config(mtp__weight=0.25), prepared).mtp_weight(50) == 0.25


# --- a branch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 30, 40, 45, 69, 80])
def test_a_branch_reads_what_the_run_would_have_read(prepared, step):
    """Oracle: the batches of the run itself, from the first, over every change of the mixture."""
    plan = Plan.of(config(100, mixture=MIXTURE, schedule__decay=0.2), prepared)
    branch = Plan.of(plan.branched(step, 20), prepared)
    assert branch.config.length == step + 20
    theirs, ours = plan.batches(), branch.batches()
    for at in range(step + 20):
        assert plan.phases.weights[plan.phases.phase(at)] == branch.phases.weights[branch.phases.phase(at)]
        np.testing.assert_array_equal(ours.batch(at).ids, theirs.batch(at).ids)


@settings(max_examples=60)
@given(step=st.integers(1, 99), steps=st.integers(1, 50), kind=st.sampled_from(["wsd", "cosine", "constant"]))
def test_a_branch_goes_on_at_the_rate_it_left(prepared, step, steps, kind):
    """Oracle: the rate of the step before, less a straight line that is at its lowest in the last step."""
    plan = Plan.of(config(100, schedule__kind=kind, schedule__floor=0.1), prepared)
    branch = Plan.of(plan.branched(step, steps), prepared)
    before = plan.schedule.at(step - 1)
    left = np.arange(steps - 1, -1, -1) / steps
    found = [branch.schedule.at(step + i) for i in range(steps)]
    np.testing.assert_allclose(found, before * (0.1 + 0.9 * left))
    assert branch.config.data.folder == str(prepared.folder.resolve())


@settings(max_examples=60)
@given(
    step=st.integers(0, 60),
    steps=st.integers(1, 90),
    shares=st.lists(st.integers(1, 100), max_size=3, unique=True),
)
def test_a_branch_changes_where_the_run_changes(prepared, step, steps, shares):
    """Oracle: mixture and weight of the run at each step; short runs, where change points fall on one step,
    too."""
    for length in (61, 3):
        told = "0.5" + "".join(f" until {share}%, then 0.{i + 1}" for i, share in enumerate(sorted(shares)))
        plan = Plan.of(
            config(length, mixture={"code": told, "prose": 1.0}, mtp__depth=1, mtp__weight=told,
                   schedule__kind="constant"), prepared,
        )  # fmt: skip
        branch = Plan.of(plan.branched(min(step, length - 1), steps), prepared)
        for at in range(min(length, branch.config.length)):
            assert branch.mtp_weight(at) == plan.mtp_weight(at)
            mine, theirs = branch.phases, plan.phases
            assert mine.weights[mine.phase(at)] == theirs.weights[theirs.phase(at)]


def test_a_branch_of_a_branch(prepared):
    plan = Plan.of(config(100, mixture=MIXTURE), prepared)
    once = Plan.of(plan.branched(50, 30), prepared)
    twice = Plan.of(once.branched(60, 10), prepared)
    for at in range(70):
        np.testing.assert_array_equal(twice.batches().batch(at).ids, plan.batches().batch(at).ids)
    assert twice.schedule.at(60) < once.schedule.at(59) == twice.schedule.peak


def test_a_branch_that_cannot_be(prepared):
    plan = Plan.of(config(100), prepared)
    with pytest.raises(UsageError, match="anneal: 0 steps, valid is 1 or more"):
        plan.branched(50, 0)
    with pytest.raises(UsageError, match="at step 100 the learning rate is 0 already; branch earlier"):
        plan.branched(100, 10)


# --- what is refused ------------------------------------------------------------------------------------


def test_settings_that_contradict_the_data(prepared):
    with pytest.raises(
        DataError, match="unknown domain 'cod'; the data has 'code', 'prose'; did you mean 'code'"
    ):
        Plan.of(config(mixture={"cod": 1.0}), prepared)
    with pytest.raises(DataError, match="add up to 0"):
        Plan.of(config(mixture={"code": "1 until 50%, then 0"}), prepared)


def test_settings_that_contradict_each_other(prepared):
    with pytest.raises(UsageError, match="80 steps of warmup and 30 of decay in a run of 100"):
        Plan.of(config(schedule__warmup=0.8, schedule__decay=0.3), prepared)
    with pytest.raises(
        UsageError, match=rf"mtp\.depth is {CONTEXT}, valid is below model\.context, {CONTEXT}"
    ):
        Plan.of(config(mtp__depth=CONTEXT), prepared)
    with pytest.raises(UsageError, match=r"preset '0\.1': valid are"):
        Plan.of(config(model__preset="0.1"), prepared)
    with pytest.raises(UsageError, match="heads must be a multiple"):
        Plan.of(config(model__kv_heads=3), prepared)


def test_a_weight_that_cannot_be_read(prepared):
    with pytest.raises(DataError, match="cannot read 'much'"):
        Plan.of(config(mtp__weight="much"), prepared)


def test_change_points_of_a_weight_that_do_not_ascend(prepared):
    """Oracle: a mixture of the same words is refused."""
    told = "0.3 until 50%, then 0.2 until step 10, then 0.1"
    with pytest.raises(DataError, match="change points have to ascend"):
        Mixture.parse({"code": told}).resolve(100)
    with pytest.raises(UsageError, match="change points have to ascend"):
        Plan.of(config(mtp__depth=1, mtp__weight=told), prepared)


def test_halves_of_an_odd_run(prepared):
    """Shares that add up to one always fit."""
    for steps in (1, 2, 3, 7, 101):
        plan = Plan.of(config(steps, schedule__warmup=0.5, schedule__decay=0.5), prepared)
        assert plan.schedule.warmup + plan.schedule.decay <= steps


def test_the_plan_is_left_as_it_was(prepared):
    plan = Plan.of(config(100, mixture=MIXTURE), prepared)
    before = replace(plan.config)
    plan.branched(50, 10)
    assert plan.config == before

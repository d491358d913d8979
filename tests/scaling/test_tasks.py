"""Facts about tasks: consistent, and right where sources state them wrongly."""

from __future__ import annotations

import math

import pytest

from scaling.facts.tables import rows, score_units
from scaling.metrics import known_metrics
from scaling.models import find_model, known_models, model_info
from scaling.tasks import find_alias, known_tasks, task_info


def test_one_task_name_means_one_test():
    meaning: dict[str, tuple[str, str, str]] = {}
    for row in rows("tasks.csv"):
        said = (row["benchmark"], row["split"], row["format"])
        assert meaning.setdefault(row["task"], said) == said, row
        assert row["reference"], row


def test_every_listed_task_has_facts():
    listed = {row["task"] for row in rows("tasks.csv")}
    assert listed <= set(known_tasks())


def test_facts_hold_together():
    for name in known_tasks():
        info = task_info(name)
        assert info.reference, name
        assert info.capability, name
        if info.chance is not None and info.n_choices:
            assert info.chance == pytest.approx(1 / info.n_choices, rel=1e-6), name
        if info.majority_rate is not None and info.chance is not None:
            assert info.majority_rate >= info.chance - 1e-9, name
        if info.ceiling is not None:
            assert (info.chance or 0) < info.ceiling <= 1, name
        assert info.n_items is None or info.n_items > 0, name


def test_chance_where_sources_are_wrong():
    # open_lm's metadata says 25 percent for all of these.
    assert task_info("commonsense_qa", "openlm_scaling").chance == 0.2
    assert task_info("math_qa", "openlm_scaling").chance == 0.2
    assert task_info("agi_eval_lsat_ar").chance == 0.2
    # Its Social IQa has two choices, everybody else's has three.
    assert task_info("siqa", "openlm_scaling").chance == 0.5
    assert task_info("siqa").chance == pytest.approx(1 / 3)
    assert task_info("arc_challenge").n_items == 1172
    assert task_info("arc_easy").n_items == 2376
    assert task_info("boolq").majority_rate == 0.6217 > task_info("boolq").chance
    for name in ("commonsense_qa", "mathqa_mc", "siqa_2choice", "arc_challenge"):
        assert task_info(name).note


def test_names_are_never_merged_by_likeness():
    assert find_alias("ARC-challenge", "lm-eval-0.3") is None
    assert find_alias("arc_challenge", "nobody") is None
    assert task_info("Hellaswag").chance is None
    assert task_info("Hellaswag").name == "Hellaswag"


def test_gemstones_coqa_is_commonsense_qa():
    assert find_alias("coqa", "gemstones").task == "commonsense_qa"
    assert find_alias("coqa", "lm-eval-0.3").task == "coqa"
    assert find_alias("coqa", "openlm_scaling").task == "coqa_lm"


def test_harness_version_decides_which_mmlu_it_is():
    assert find_alias("hendrycksTest-anatomy", "lm-eval-0.3", version=0).task == "mmlu_anatomy"
    assert find_alias("hendrycksTest-anatomy", "lm-eval-0.3", version=1).task == "mmlu_anatomy_mc"


def test_unknown_task_is_all_none():
    info = task_info("never_heard_of_it")
    assert (info.chance, info.majority_rate, info.ceiling, info.n_items, info.capability) == (None,) * 5


def test_model_names_point_to_models_and_variants():
    for row in rows("model_names.csv"):
        assert row["name"] in known_models(), row
        assert row["alias"] not in known_models(), row
        assert find_model(row["alias"]).variant == (row["variant"] or None)
    for name in known_models():
        info = model_info(name)
        assert info.family and info.reference and info.params > 1e7, name


@pytest.mark.parametrize(
    "name, steps",
    [
        ("pythia-160m@v0", 71_500),
        ("pythia-70m@v0", 143_000),
        ("pythia-160m@v1", 143_000),
        ("pythia-70m-0.25MtokBS@v1", 1_144_000),
        ("pythia-410m-0.5MtokBS@v1", 572_000),
        ("pythia-1.4b-1MtokBS@v1", 286_000),
    ],
)
def test_tokens_per_step_of_pythia_variants_end_at_the_same_tokens(name, steps):
    info = model_info(name)
    assert info.tokens_at(steps) == info.tokens_at(None) == 299_892_736_000
    assert info.tokens_at(0) == 0


def test_units_and_metrics():
    assert score_units("lm-eval-0.3", "squad2", "exact") == 0.01
    assert "acc_norm" in known_metrics()


def test_leaderboard_chance_is_the_mean_over_subtasks():
    parts = [task_info(name).chance for name in known_tasks() if name.startswith("leaderboard_bbh_")]
    assert len(parts) == 24
    assert task_info("leaderboard_bbh").chance == pytest.approx(math.fsum(parts) / 24, abs=1e-6)

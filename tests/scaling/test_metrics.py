"""Facts about metrics, and what happens to one that nobody knows."""

from __future__ import annotations

import math

import pytest

from scaling.metrics import known_metrics, metric_info


def test_every_known_metric_is_whole():
    # Oracle: the families and directions that the design names.
    for name in known_metrics():
        info = metric_info(name)
        assert info.name == name and info.low < info.high and info.unit and info.reference
        assert info.family in {"proportion", "bits", "loss", "other"}
        assert info.fitted == (info.family != "other")
        if info.family == "proportion":
            assert (info.low, info.high) == (0.0, 1.0)
        if info.fitted:
            assert info.higher_is_better is (info.family == "proportion")


def test_an_unknown_metric_is_kept_and_never_fitted():
    info = metric_info("never_heard_of_it")
    assert not info.fitted and info.higher_is_better is None
    assert (info.low, info.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(("name", "better"), [("acc", True), ("bpb", False), ("likelihood_difference", None)])
def test_directions(name, better):
    assert metric_info(name).higher_is_better is better

"""Held-out text row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.prepared import Prepared
from tests.train.runs import config, tokens
from train.model import initialise
from train.mtp import TrainedModel
from train.plan import Plan
from train.studies.held_out import HeldOut


def test_rows_add_up_to_the_loss_of_a_validation(tmp_path: Path):
    """Oracle: `Validation.run` on the same windows."""
    data = tokens(tmp_path / "tokens")
    plan = Plan.of(config(data), Prepared.read(data))
    model = TrainedModel(plan.shape).eval()
    initialise(model, plan.shape.layers, 3)
    validation = plan.validation()
    rows = HeldOut.of(validation)
    bits = rows.bits(model)
    assert len(bits) == len(rows.domain) == len(rows.bytes) > len(validation.parts)
    for name, loss in validation.run(model).items():
        mine = rows.domain == name
        assert bits[mine].sum() == pytest.approx(loss.bits, rel=1e-12)
        assert rows.bytes[mine].sum() == loss.bytes
    assert np.isfinite(bits).all()

"""Settings of averaging: what may be written, and what is refused."""

from __future__ import annotations

import pytest

from evalsuite.averaging import Averaging, Spacing
from scaling.errors import UsageError

FORMS = {
    "auto": ("auto", 0.0), 50: ("steps", 50.0), "50": None, "50 steps": ("steps", 50.0),
    "1 step": ("steps", 1.0), "2e3 steps": ("steps", 2000.0), " 50  Steps ": ("steps", 50.0),
    "50steps": ("steps", 50.0), "2e6 tokens": ("tokens", 2e6), "0.5 tokens": ("tokens", 0.5),
    "10 minutes": ("minutes", 10.0), "1.5 minutes": ("minutes", 1.5), "1 minute": ("minutes", 1.0),
    0: None, -3: None, 2.0: None, None: None, "": None, "0 steps": None, "-1 tokens": None,
    "1.5 steps": None, "inf tokens": None, "nan minutes": None, "10 hours": None, "ten steps": None,
    "10 steps 5": None, "steps": None, "auto steps": None,
}  # fmt: skip


@pytest.mark.parametrize("told", FORMS)
def test_spacings(told):
    wanted = FORMS[told]
    if wanted is not None:
        assert Averaging(spacing=told).apart == Spacing(*wanted)
        return
    with pytest.raises(UsageError, match=r"spacing .*: valid is auto, .*50.*tokens.*minutes") as caught:
        Averaging(spacing=told)
    assert repr(told) in str(caught.value)


WRONG = {
    "n": [0, -1, 2.0, True], "weights": ["mean", None], "where": ["gpu"],
    "decay": [0, -0.5, 1.1, float("nan")], "span": [0, 1, -0.1, float("nan")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(UsageError, match=rf"averaging: {name} .*valid is"):
        Averaging(**{name: value})


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(UsageError, match="spacing True"):
        Averaging(spacing=True)
    with pytest.raises(UsageError, match=r"n 0.*weights 'x'.*where 'y'.*decay 2.*span 3"):
        Averaging(n=0, weights="x", where="y", decay=2, span=3)  # pyright: ignore[reportArgumentType]


def test_what_is_just_right():
    assert Averaging(n=1, decay=1, span=0.999).n == 1

"""Versions of what is installed, beside what is not."""

import numpy
import pandas

from scaling.versions import versions


def test_what_is_installed_is_named_in_the_order_given():
    """Oracle: what the packages say of themselves."""
    found = versions(["pandas", "no-such-thing", "numpy"])
    assert list(found.items()) == [("pandas", pandas.__version__), ("numpy", numpy.__version__)]
    assert versions([]) == {}

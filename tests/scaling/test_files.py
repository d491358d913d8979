"""Files written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from scaling.files import replacing


def test_a_finished_body_replaces_the_file(tmp_path):
    # Oracle: the bytes written.
    target = tmp_path / "deep" / "out.csv"
    for text in ("first", "second"):
        with replacing(target) as part:
            assert part.parent == target.parent and part.suffix == ".csv"
            part.write_text(text)
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_old_file_survives_whatever_goes_wrong(tmp_path, error):
    # Oracle: the old bytes, and a folder with nothing else in it.
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as part:
        part.write_text("half of the n")
        raise error("stop")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_reader_sees_the_old_file_until_the_end(tmp_path):
    # Oracle: the old bytes while the new ones are written.
    target = tmp_path / "out.txt"
    target.write_text("old")
    with replacing(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_nothing_is_left_where_no_file_was(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "out.txt"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_mode_is_that_of_any_file_the_user_writes(tmp_path):
    # Oracle: the mode of a file made with open().
    old = os.umask(0o027)
    try:
        (tmp_path / "plain").write_text("x")
        with replacing(tmp_path / "ours") as part:
            part.write_text("x")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1] == 0o640

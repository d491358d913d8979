"""YAML that people edit. Oracle: the file, line and field that were broken on purpose."""

from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.documents import MAX_BYTES, Line, dump, number, parse, read_text
from evalsuite.settings import Settings, find_stage, packaged_stages
from scaling.errors import StagewiseError, UsageError


def read(text: str) -> Settings:
    return parse(text, Settings, "s.yaml", "settings file", "mend it")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_yaml_reader_takes_a_written_number_for_the_float_it_is(value: float) -> None:
    """Oracle: PyYAML's own safe loader (YAML 1.1), which takes 1e+19 for text."""
    found = yaml.safe_load(number(value, 17))
    assert isinstance(found, float) and found == value


def test_people_may_write_1e19() -> None:
    assert read("stages: {mine: {low: 1e19, high: 1E+21}}").stages["mine"].high == 1e21


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("threshold: 0.8\nthreshold: 0.9\n", 2, "threshold: stands twice"),
        ("threshold: .nan\n", 1, "threshold: got NaN"),
        ("points: auto\n\nthreshold: high\n", 3, 'got "high"'),
        ("treshold: 0.8\n", 1, "no such field; valid fields are threshold, coverage"),
        ("level: 0.1\nnote: '  '\n", 2, "valid is 1 to 1000 characters, and this has 0"),
        (f"note: {'long ' * 300}\n", 1, "valid is 1 to 1000 characters, and this has 1499"),
        ("note: [a, b]\n", 1, "note: got"),
        ("stages:\n  a: {low: 1.0e+20, high: 1.0e+19}\n", 2, "valid is low < high"),
        ("stages:\n  a: {low: 1.0e+20}\n", 2, "missing; valid fields are low, high"),
        (
            "overrides:\n  - task: piqa\n    metric: acc\n    action: keep\n",
            2,
            "overrides[0].reason: missing",
        ),
        ("overrides:\n  - {task: a, metric: acc, action: keep, reason: x, shots: yes}\n", 2, "got true"),
        (
            "overrides:\n  - {task: a, metric: acc, action: cluster, reason: x}\n",
            2,
            "goes with action: cluster",
        ),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: &x 1\nb: *x\n", 2, "an alias"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "could not determine a constructor"),
        ("- 1\n", None, "valid is a mapping"),
        ("a: 2024-13-45\n", None, "not valid YAML"),
        ("\x07", None, "not valid YAML"),
        ("[" * 3000, None, "nested too deeply"),
        ("# nothing\n", None, "comments only"),
    ],
)
def test_a_broken_file_is_one_error_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(StagewiseError) as caught:
        read(text)
    message = str(caught.value)
    assert words in message and "mend it" in message
    assert line is None or f"s.yaml, line {line}" in message


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(StagewiseError, match=r"(?s)line 1, threshold.*line 2, coverage"):
        read("threshold: 7\ncoverage: 2\n")


def test_files_that_cannot_be_suites(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    with pytest.raises(StagewiseError, match="no such file"):
        read_text(path, "suite")
    path.write_bytes(b"")
    with pytest.raises(StagewiseError, match="empty file"):
        read_text(path, "suite")
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(StagewiseError, match="not UTF-8 text at byte 3"):
        read_text(path, "suite")
    with open(path, "wb") as handle:
        handle.truncate(MAX_BYTES + 1)  # sparse: one line of zeros
    with pytest.raises(StagewiseError, match="valid is up to"):
        read_text(path, "suite")


def test_dump_keeps_order_and_one_line_per_line() -> None:
    assert dump({"b": 1.0, "a": Line(z="x, y", y=None)}) == "b: 1.0\na: {z: 'x, y', y: null}\n"


def test_packaged_stages_overlap_by_a_factor_two() -> None:
    stages = sorted(packaged_stages().values(), key=lambda one: one.low)
    assert len(stages) == 3
    for one, other in pairwise(stages):
        assert one.high / other.low == pytest.approx(2.0)


def test_stage_by_name_by_bounds_and_neither() -> None:
    own = read("stages: {mid: {low: 1.0, high: 2.0}}")
    assert find_stage("mid", own)[1].high == 2.0
    assert find_stage("early")[0] == "early"
    assert find_stage("1e19..1e21")[0] is None
    for bad in ("middle", "1e21..1e19", "a..b", "nan..1e21", ".."):
        with pytest.raises(UsageError, match="valid is"):
            find_stage(bad)

"""Where tasks are found: which folder wins, what is registered for the user, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.registry import Registry, register, registered, settings_folder, unregister
from evalsuite.skills import skill, skill_names
from evalsuite.tasks import TaskFolder
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.scored import choice, free, task_folder


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch) -> Path:
    """No test touches the settings of whoever runs it."""
    monkeypatch.setenv("STAGEWISE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def folder(tmp_path) -> Path:
    return task_folder(tmp_path / "ours", {"colours": [choice(i) for i in range(5)], "sums": [free(0)]})


def test_skills_alone_where_nothing_is_registered():
    registry = Registry.open()
    assert registry.names() == skill_names() and len(registry.names()) >= 12
    assert registry.task("skill_copy").items == skill("skill_copy").items
    other = Registry.open(seed=1).task("skill_copy")
    assert other.items == skill("skill_copy", 1).items
    assert other.items != registry.task("skill_copy").items and "seed 1" in other.origin


def test_what_is_said_of_a_skill():
    """Oracle: the skill's own facts."""
    for name in ("skill_copy", "skill_brackets"):
        task, facts = Registry().task(name), skill(name).skill
        assert (task.delimiter, task.prefix, task.prefix_shots) == (
            facts.delimiter,
            facts.prefix,
            facts.prefix_shots,
        )
        assert task.chance == pytest.approx(facts.chance) and task.free == (not facts.choices)
        assert task.info.capability and not task.unsafe


def test_the_first_folder_wins(tmp_path, folder):
    later = task_folder(tmp_path / "theirs", {"colours": [choice(9)], "more": [free(1)]})
    registry = Registry.open([folder, later])
    assert registry.names()[:3] == ("colours", "sums", "more")
    assert len(registry.task("colours").items) == 5
    assert len(Registry.open([later, folder]).task("colours").items) == 1


def test_names_by_pattern(folder):
    registry = Registry.open([folder])
    assert registry.matching("s[uk]*s") == tuple(n for n in registry.names() if n[0] == "s" and n[-1] == "s")
    assert registry.matching("colours") == ("colours",)
    with pytest.raises(UsageError, match=r"'colors': not among \d+ tasks; near it are colours.*--add DIR"):
        registry.matching("colors")
    with pytest.raises(UsageError, match="'COLOURS'"):
        registry.matching("COLOURS")


@pytest.mark.parametrize("name", ["skill_*", "s?ms", "[cs]*"])
def test_a_pattern_is_no_task(folder, name):
    with pytest.raises(UsageError):
        Registry.open([folder]).task(name)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "{{7*7}}", "os.system", "", "sums.jsonl", "./sums", "a\nb"]
)
def test_a_name_is_only_looked_up(folder, name):
    with pytest.raises(UsageError, match="not among"):
        Registry.open([folder]).task(name)


def test_registering(folder, own_settings):
    assert registered() == ()
    assert {name: len(task.items) for name, task in register(folder).items()} == {"colours": 5, "sums": 1}
    assert registered() == (folder,) and settings_folder() == own_settings
    register(folder)
    assert registered() == (folder,)  # once
    assert Registry.open().names()[:2] == ("colours", "sums")
    assert Registry.open([folder]).folders == (TaskFolder.open(folder),)
    unregister(folder)
    assert registered() == () and Registry.open().names() == skill_names()
    assert (folder / "colours.jsonl").is_file()
    with pytest.raises(UsageError, match="not registered; registered are none"):
        unregister(folder)


def test_a_path_is_kept_whole(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    register("ours")
    monkeypatch.chdir("/")
    assert registered() == (folder,) and "colours" in Registry.open().names()


def test_a_clash_with_another_registered_folder(tmp_path, folder):
    register(folder)
    other = task_folder(tmp_path / "theirs", {"sums": [free(3)], "fine": [free(4)]})
    with pytest.raises(
        UsageError, match=rf"task sums \(1 in all\) is in {folder} already.*--remove {folder}"
    ):
        register(other)
    assert registered() == (folder,)
    unregister(folder)
    register(other)
    assert registered() == (other,)


def test_all_problems_of_a_folder_at_once_and_nothing_registered(tmp_path):
    bad = task_folder(
        tmp_path / "bad",
        {
            "a": [choice(0, gold=4), choice(1, gold=-1)],
            "b": [free(0, answer="")],
            "c": [choice(2, choices=[])],
        },
    )
    with pytest.raises(StagewiseError, match=r"4 problem\(s\)") as caught:
        register(bad)
    for said in ("a.jsonl:1", "a.jsonl:2", "b.jsonl:1 (item 'sum/0')", "c.jsonl:1"):
        assert said in str(caught.value)
    assert registered() == ()


def test_a_registered_folder_that_vanished(folder):
    register(folder)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(StagewiseError, match=rf"{folder}: a registered folder.*--remove {folder}"):
        Registry.open()
    unregister(folder)
    Registry.open()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("folders: [", "not valid YAML"),
        ("- a", "valid is a mapping"),
        ("folders: [1]", r"folders\[0\]: got 1"),
    ],
)
def test_a_broken_list_of_folders(own_settings, text, said):
    own_settings.mkdir()
    (own_settings / "tasks.yaml").write_text(text)
    with pytest.raises(StagewiseError, match=rf"tasks\.yaml(.|\n)*{said}(.|\n)*delete it"):
        Registry.open()


def test_where_settings_live(monkeypatch, tmp_path):
    monkeypatch.delenv("STAGEWISE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_folder() == tmp_path / "stagewise"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert settings_folder() == tmp_path / "me" / ".config" / "stagewise"


def test_real_folders_are_found(shared):
    registry = Registry.open([shared / "tasks"])
    assert len(registry.names()) == 79 + len(skill_names())
    assert len(registry.task("piqa").items) == 500 and registry.task("siqa").info.name == "siqa"

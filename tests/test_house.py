"""The rules of the house: what imports what, how light the commands are, what may not be committed."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL_LIBRARIES = {"torch", "lm_eval", "transformers"}
SLOW_LIBRARIES = MODEL_LIBRARIES | {"pandas", "scipy", "sklearn", "statsmodels", "matplotlib", "pyarrow"}
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
MACHINE_PATH = re.compile(r"(?<![\w.)}>-])/(?:work|tmp|root|opt)/")


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=120)


def run_command(name: str, *args: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Do what the console script `name` does, in a fresh interpreter; also return the modules it loaded."""
    module, function = COMMANDS[name].split(":")
    code = (
        "import json, sys\n"
        f"sys.argv = {[name, *args]!r}\n"
        "try:\n"
        f"    from {module} import {function}\n"
        f"    sys.exit({function}())\n"
        "finally:\n"
        "    print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = run(sys.executable, "-c", code)
    return done, set(json.loads(done.stdout.splitlines()[-1]))


def loaded_by(statement: str) -> set[str]:
    """Names of all modules in memory after `statement` ran in a fresh interpreter."""
    done = run(sys.executable, "-c", f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["scaling", "evalsuite"])
def test_import_loads_no_model_library(package: str) -> None:
    assert not loaded_by(f"import {package}") & MODEL_LIBRARIES


@pytest.mark.parametrize("package", ["scaling", "evalsuite"])
def test_import_loads_neither_train_nor_data(package: str) -> None:
    """Both names are common in other people's trainers, and theirs would be found first."""
    assert not loaded_by(f"import {package}") & {"train", "data"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_importing_a_command_is_light(command: str) -> None:
    module = COMMANDS[command].partition(":")[0]
    assert not loaded_by(f"import {module}") & SLOW_LIBRARIES


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_answers_and_is_light(command: str) -> None:
    done, modules = run_command(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert not modules & SLOW_LIBRARIES


@pytest.mark.parametrize(
    ("args", "said"),
    [((), "Usage: train"), (("run",), "Missing option"), (("--no-such-option",), "No such")],
)
def test_train_says_how_it_is_called(args: tuple[str, ...], said: str) -> None:
    """Without a command it shows its help; a run needs a folder (-o)."""
    done, modules = run_command("train", *args)
    assert done.returncode == 2 and said in done.stdout + done.stderr
    assert not modules & SLOW_LIBRARIES


def test_import_contract_holds() -> None:
    """Oracle: import-linter, over the contracts in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed in this environment: make test installs it")
    done = run(str(linter), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_folder_is_listed_for_installation() -> None:
    """A folder missing from the explicit list works in an editable install and is lost in a wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = settings["tool"]["setuptools"]["packages"]
    tops = {name.partition(".")[0] for name in listed}
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for top in tops
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


def committed_files() -> list[Path]:
    """Files that git tracks or would add."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    assert done.returncode == 0, done.stderr
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_names_a_path_of_somebodys_machine() -> None:
    hits = []
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        hits += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if MACHINE_PATH.search(line)
        ]
    assert not hits, "\n".join(hits)

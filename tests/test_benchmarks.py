"""The benchmarks: each contestant in a process of its own, and none in the one that is started."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "keras", "torch", "kseq")

TIMING = """
import sys, time

sys.path[:0] = [{folder!r}]
from timing import contestants, in_turns, ratio


def quick(seconds):
    return {{"run": lambda: time.sleep(seconds), "number": lambda: 3.5}}


def missing():
    import a_package_that_nobody_has


def dying():
    import os

    return {{"run": lambda: os._exit(7)}}


if __name__ == "__main__":
    with contestants({{"one": (quick, 0.0), "none": (missing,), "two": (quick, 0.01)}}) as made:
        assert list(made) == ["one", "two"]
        assert made["one"].run("number")[1] == 3.5
        seconds = in_turns({{name: (one, "run") for name, one in made.items()}}, 3)
        assert [len(each) for each in seconds.values()] == [3, 3] and min(seconds["two"]) >= 0.01
        assert ratio(None, seconds["one"]) == "–"
    with contestants({{"dying": (dying,)}}) as made:
        try:
            made["dying"].run("run")
        except RuntimeError as error:
            print(error)
"""


def run(code, path, *arguments):
    path.write_text(code, encoding="utf-8")
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


@pytest.mark.slow
def test_contestants_run_in_turns_and_what_is_not_installed_is_left_out(tmp_path):
    out = run(TIMING.format(folder=str(ROOT / "benchmarks")), tmp_path / "program.py")
    assert "none is left out: No module named 'a_package_that_nobody_has'. Install it with pip install" in out
    assert out.endswith("a contestant died with exit code 7\n")


@pytest.mark.parametrize("name", ["recurrent", "decoder", "dropout"])
def test_the_process_that_is_started_imports_no_contestant(name, tmp_path):
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'benchmarks')!r}]; import {name}; print(*sys.modules)"
    modules = set(run(code, tmp_path / "program.py").split())
    assert name in modules and not modules & set(HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags", "rows"),
    [
        ("recurrent", ["--units", "4", "--rounds", "2", "--kinds", "LSTM", "RNN"], 4),
        ("decoder", ["--parts", "memory"], 2),
        ("dropout", ["--rounds", "2"], 2),
    ],
)
def test_a_table_is_printed_and_nothing_heavy_was_imported(name, flags, rows, tmp_path):
    code = f"""
import sys

sys.path[:0] = [{str(ROOT / "benchmarks")!r}]
import {name}

if __name__ == "__main__":
    {name}.main({flags!r})
    assert not set(sys.modules) & set({HEAVY!r})
"""
    lines = run(code, tmp_path / "program.py").splitlines()
    table = [line for line in lines if line.startswith("|") and "---" not in line]
    assert len(table) >= 1 + rows

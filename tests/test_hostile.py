"""Short versions of benchmarks/hostile.py (damaged files, foreign folders, two starts, kills, Ctrl-C, a full disk) and
of benchmarks/serving.py (requests that nobody should send).
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and limits the size of files")
def test_what_should_never_happen_to_a_folder_ends_in_a_sentence_or_the_same_weights():
    command = [sys.executable, "benchmarks/hostile.py", "--kills=2", "--short"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("\n0 wrong\n")
    header, *rows = [line.split() for line in result.stdout.splitlines()[-8:-1]]
    assert header == ["tries", "answer", "resumed", "sentence", "traceback"]
    assert len(rows) == 6 and all(row[-1] == "0" for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads the memory of a process from /proc")
@pytest.mark.parametrize("task", ["caption", "entail"])
def test_no_request_fails_that_nobody_should_send(task, tmp_path):
    command = [sys.executable, "benchmarks/serving.py", "--short", "--corruptions=20", f"--work={tmp_path}"]
    result = subprocess.run([*command, "--tasks", task], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("\n0 wrong\n") and "| empty batch | 0 | none | yes |" in result.stdout

"""The launcher of workers on one machine."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kseq.cluster import read_worker
from kseq.launch import free_ports, launch, main

# Ends as the first argument says, or after a minute, unless it is told to end.
PROGRAM = """
import json, os, subprocess, sys, time
number = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print("number", number, flush=True)
print("to err", file=sys.stderr, flush=True)
how = sys.argv[1:][number]
if how == "wait":
    child = subprocess.Popen(["sleep", "60"])
    print("child", child.pid, flush=True)
    time.sleep(60)
if how == "die":
    os.abort()
sys.exit(int(how))
"""


def command(*ways):
    return [sys.executable, "-c", PROGRAM, *ways]


def state(process):
    """The state of a process as Linux writes it, "Z" where it has ended, and its parent."""
    try:
        found, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
        return found, int(parent)
    except FileNotFoundError:
        return "Z", 0


def is_running(process):
    return state(process)[0] != "Z"


def gone(processes):
    """Whether these processes end within two seconds."""
    deadline = time.monotonic() + 2
    while any(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, processes))


def children(text):
    return [int(line.split()[-1]) for line in text.splitlines() if "child" in line]


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see which processes are there")


def test_each_worker_has_its_place_and_its_number_before_its_lines(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    out, err = io.StringIO(), io.StringIO()
    show = [sys.executable, "-c", "import os; print(os.environ['TF_CONFIG'])"]
    assert launch(show, 3, out, err) == 0
    lines = dict(line.split(" ", 1) for line in out.getvalue().splitlines())
    assert sorted(lines) == ["[0]", "[1]", "[2]"]
    assert [read_worker(lines[f"[{n}]"]) for n in range(3)] == [(n, 3) for n in range(3)]
    assert len({json.dumps(json.loads(line)["cluster"]) for line in lines.values()}) == 1


@needs_proc
def test_the_first_that_fails_is_named_and_ends_the_others():
    out, err = io.StringIO(), io.StringIO()
    assert launch(command("wait", "3"), 2, out, err) == 3
    assert "[1] to err" in err.getvalue()
    assert "worker 1 of 2 failed with exit status 3; ending the other 1" in err.getvalue()
    assert gone(children(out.getvalue()))


def test_a_worker_that_is_killed_is_named():
    err = io.StringIO()
    assert launch(command("0", "die"), 2, io.StringIO(), err) == 128 + signal.SIGABRT
    assert f"worker 1 of 2 was ended by signal {int(signal.SIGABRT)}" in err.getvalue()


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_launcher(number):
    """Workers end by the signal of the launcher; by SIGKILL, which it cannot handle, they die with it (Linux)."""
    run = [sys.executable, "-m", "kseq.launch", "--workers", "2", "--", *command("wait", "wait")]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    options = {"env": environment, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, **options) as launcher:
        lines = [launcher.stdout.readline() for _ in range(4)]
        found = children("".join(lines))
        workers = [state(child)[1] for child in found]
        assert len(found) == 2 and all(map(is_running, workers))
        launcher.send_signal(number)
        launcher.wait(10)
        assert gone(workers)
        if number == signal.SIGKILL:
            for child in found:
                os.kill(child, signal.SIGKILL)
            assert launcher.returncode == -number
        else:
            assert gone(found) and launcher.returncode == 128 + number


def test_ports_are_different():
    assert len(set(free_ports(5))) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0", "--", "x"], "--workers must be at least 1, it is 0"),
        (["--workers", "2", "--", "/no/such"], "/no/such cannot be started: No such file or directory"),
        (["--workers", "2"], "required: command"),
    ],
)
def test_a_wrong_call_is_named(arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_cluster_that_is_there_is_not_overwritten(capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(SystemExit):
        main(["--workers", "2", "--", "x"])
    assert "TF_CONFIG is set, so a cluster has started this process already" in capsys.readouterr().err

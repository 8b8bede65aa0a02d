"""Marks slow tests by what they use, and turns off what slows all tests down."""

import gc
import os
from pathlib import Path

import pytest

gc.set_threshold(20_000, 20, 20)  # tracing allocates many objects; collecting so often took a tenth of the time
os.fsync = os.fstat  # no test needs its files to survive a power cut

TASKS = Path(__file__).parent / "tasks"
TRAINED = {
    "trained",
    "whole",
    "run",
    "classifier",
    "translator",
    "hub",
    "frozen",
    "sentences",
}  # fixtures that train a model


def pytest_collection_modifyitems(items):
    """Tests of tasks that need a trained run, and all that compile under XLA."""
    for item in items:
        needs_a_run = TASKS in item.path.parents and TRAINED & set(item.fixturenames)
        compiles = hasattr(item, "callspec") and "xla" in item.callspec.id.split("-")
        if needs_a_run or compiles:
            item.add_marker(pytest.mark.slow)

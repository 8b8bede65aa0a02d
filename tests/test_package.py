"""Tests of the package as it is imported, and of the examples in its docstrings."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import kseq

LIGHT = "import sys, kseq; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
MODULES = ["kseq", *(module.name for module in pkgutil.walk_packages(kseq.__path__, "kseq."))]


def test_importing_kseq_imports_nothing_heavy():
    root = Path(kseq.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", LIGHT], cwd=root, capture_output=True, text=True, check=True)
    assert "kseq" in run.stdout.split()
    assert not {"tensorflow", "keras", "numpy", "pydantic", "tensorflow_datasets"} & set(run.stdout.split())


def test_the_version_is_a_literal_that_setuptools_can_read():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kseq.__version__)
    assert f'\n__version__ = "{kseq.__version__}"\n' in Path(kseq.__file__).read_text("utf-8")


@pytest.mark.parametrize("name", kseq.__all__)
def test_the_parts_are_there_when_they_are_named(name):
    assert getattr(kseq, name) is importlib.import_module(f"kseq.{name}")


def test_all_names_the_parts_and_no_program():
    """What `__all__` leaves out is run, or comes out of another part: the errors and the configs."""
    parts = {name.split(".")[1] for name in MODULES[1:]}
    assert parts - set(kseq.__all__) == {"ask", "config", "errors", "tasks"}
    assert list(kseq.__all__) == sorted(kseq.__all__)


@pytest.mark.parametrize("name", ["absent", "tensorflow", "__wrapped__"])
def test_an_unknown_attribute_is_an_error_that_names_the_known_ones(name):
    message = f"module 'kseq' has no attribute {name!r}; it has data, export, files, layers, "
    with pytest.raises(AttributeError, match=re.escape(message)):
        getattr(kseq, name)
    assert not hasattr(kseq, name)


def examples(name):
    """The docstrings of a module that hold an example, with what a reader of them has imported."""
    module = importlib.import_module(name)
    names = {"kseq": kseq, "keras": keras} | {layer: getattr(kseq.layers, layer) for layer in kseq.layers.__all__}
    return [test for test in doctest.DocTestFinder().find(module, extraglobs=names) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    report = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in examples(name):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", ["kseq.config", "kseq.layers.recurrent.recurrent"])
def test_examples_are_found(name):
    assert examples(name)

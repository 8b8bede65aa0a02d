"""Tests of the package as it is imported, and of the examples in its docstrings."""

import ast
import doctest
import importlib
import pkgutil
import pydoc
import re
import rlcompleter
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

import kseq
from kseq import registration

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


@pytest.mark.parametrize("name", sorted({*kseq.__all__} - {"load"}))
def test_the_parts_are_there_when_they_are_named(name):
    assert getattr(kseq, name) is importlib.import_module(f"kseq.{name}")


def test_a_run_is_loaded_by_the_module_of_runs():
    assert kseq.load is kseq.runs.load


def test_all_names_the_parts_and_no_program():
    """What `__all__` leaves out is run, or comes out of another part: the errors and the configs."""
    parts = {name.split(".")[1] for name in MODULES[1:]}
    assert parts - set(kseq.__all__) == {
        "cluster",
        "config",
        "demo",
        "errors",
        "launch",
        "registration",
        "serving",
        "tasks",
    }
    assert list(kseq.__all__) == sorted(kseq.__all__)


def test_the_parts_are_listed_and_completed_and_helped_with():
    assert set(kseq.__all__) < set(dir(kseq))
    completer = rlcompleter.Completer({"kseq": kseq})
    assert [completer.complete("kseq.la", k) for k in range(2)] == ["kseq.layers", None]
    text = pydoc.plain(pydoc.render_doc(kseq))
    for name in kseq.__all__:
        assert re.search(rf"^ +kseq\.{name} +\w", text, re.M) or callable(getattr(kseq, name)), name


def test_a_type_checker_sees_the_parts():
    root = Path(kseq.__file__).parent
    tree = ast.parse(Path(kseq.__file__).read_text("utf-8"))
    typed = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    assert {alias.name for node in typed[0].body for alias in node.names} == set(kseq.__all__)
    assert (root / "py.typed").is_file()


SAVE = """
import keras, numpy as np, sys
from kseq.layers import *
from kseq.losses import TokenCrossentropy
from kseq.models import Seq2Seq, TextEncoder
cell = LSTMCell(4)
encoder = TextEncoder(9, Bidirectional(Recurrent(GRUCell(4), return_state=True)), embedding_size=3)
model = Seq2Seq(encoder, DenseBridge(cell.state_size), BahdanauDecoder(cell, BahdanauAttention(4)), 9, embedding_size=3)
model.compile("adam", TokenCrossentropy(0.1))
inputs = {"source": np.array([[5, 6, 0]]), "tokens": np.array([[1, 4]])}
np.save(sys.argv[2], model(inputs))
model.save(sys.argv[1])
"""
LOAD = """
model = keras.saving.load_model(sys.argv[1])
inputs = {"source": np.array([[5, 6, 0]]), "tokens": np.array([[1, 4]])}
np.testing.assert_allclose(model(inputs), np.load(sys.argv[2]), atol=1e-6)
assert type(model).__name__ == "Seq2Seq" and type(model.loss).__name__ == "TokenCrossentropy"
"""
IMPORTS = [
    "import keras, kseq",
    "import kseq, keras",
    "from kseq.samplers import Beam; import keras",
]


@pytest.mark.slow
def test_one_import_is_enough_to_load_a_keras_file_in_a_new_process(tmp_path):
    arguments = [tmp_path / "model.keras", tmp_path / "logits.npy"]
    for program in (SAVE, *(f"import sys, numpy as np; {line}{LOAD}" for line in IMPORTS)):
        command = [sys.executable, "-c", program, *arguments]
        run = subprocess.run(command, cwd=Path(kseq.__file__).parents[1], capture_output=True, text=True)
        assert run.returncode == 0, program + run.stderr


def test_the_table_of_registered_classes_is_complete():
    """It is a literal, so that `import kseq` stays light."""
    for module in registration.CLASSES:
        importlib.import_module(module)
    registered = {name for name in keras.saving.get_custom_objects() if name.startswith("kseq>")}
    assert registered == {f"kseq>{name}" for names in registration.CLASSES.values() for name in names}
    for module, names in registration.CLASSES.items():
        for name in names:
            found = keras.saving.get_registered_object(f"kseq>{name}")
            assert found is getattr(sys.modules[module], name) and isinstance(found, type)


def test_a_stand_in_makes_the_class_it_stands_for():
    config = keras.saving.serialize_keras_object(kseq.losses.TokenCrossentropy(0.25))["config"]
    stand_in = registration._StandIn("kseq.losses", "TokenCrossentropy")
    made = stand_in.from_config(config)
    assert type(made) is kseq.losses.TokenCrossentropy and made.label_smoothing == 0.25


@pytest.mark.parametrize("name", ["absent", "tensorflow", "__wrapped__"])
def test_an_unknown_attribute_is_an_error_that_names_the_known_ones(name):
    message = f"module 'kseq' has no attribute {name!r}; it has checkpoints, data, export, files, layers, "
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


def test_every_config_and_page_is_in_the_wheel():
    """`--help` names the folder of the configs, in a checkout and where a wheel has put them."""
    root = Path(kseq.__file__).parents[1]
    globs = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["data-files"]
    packed = {path for patterns in globs.values() for pattern in patterns for path in root.glob(pattern)}
    assert {*root.glob("configs/*/*.toml"), *root.glob("docs/*")} == packed
    for folder, patterns in globs.items():
        assert [folder.removeprefix("share/kseq/")] == [str(Path(pattern).parent) for pattern in patterns]

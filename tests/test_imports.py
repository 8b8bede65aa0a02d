"""The rules of the tree that no linter knows: who imports whom, words that never appear, sizes."""

import ast
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
FILES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (ROOT / "kseq").rglob("*.py")}

# A part of kseq: the parts that it may import beside itself. "layers.signal" allows that one module.
ALLOWED = {
    "layers": set(),
    "models": {"layers", "samplers"},
    "samplers": {"layers.functional"},
    "losses": {"layers.functional"},
    "metrics": set(),
    "data": {"errors", "files"},
    "preprocessors": {"layers.signal", "errors", "files"},
    "checkpoints": {"config", "errors", "files"},
    "training": {"checkpoints", "cluster", "errors", "files"},
    "export": {"errors", "files", "quantization"},
    "lite": {"errors", "files"},
    "quantization": {"errors"},
    "plots": {"files", "metrics"},
    "config": set(),
    "serving": {"errors", "export", "files"},
    "registration": set(),
    "errors": set(),
    "cluster": {"errors"},
    "launch": {"cluster", "errors"},
    "files": {"errors"},
}
ALLOWED["runs"] = {*ALLOWED, "tasks"}
ALLOWED["kseq"] = set(ALLOWED)  # kseq/__init__.py, the public names
ALLOWED["tasks"] = set(ALLOWED)
ALLOWED["demo"] = {"kseq", "config", "errors", "plots"}  # a user of kseq.load, as others are

READS_FLAGS = "kseq/tasks/program.py"
FORBIDDEN = re.compile(r"pickle|safe_mode|\b(?:eval|exec)\(")
FUNCTION_LINES = 40


def imports(path: str, source: str) -> list[tuple[int, str]]:
    """All imports at any depth as (line, dotted name): `from .a import b` in kseq/c.py gives kseq.a.b."""
    found = []
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folders = PurePosixPath(path).parts[:-1]
            base = folders[: len(folders) - node.level + 1] if node.level else ()
            base += (node.module,) if node.module else ()
            found += [(node.lineno, ".".join((*base, alias.name))) for alias in node.names]
    return sorted(found)


def part_of(path: str) -> str:
    """kseq/layers/recurrent/cells.py → layers, kseq/losses.py → losses, kseq/__init__.py → kseq."""
    part = PurePosixPath(path).parts[1].removesuffix(".py")
    return "kseq" if part == "__init__" else part


def bad_imports(path: str, source: str) -> list[str]:
    part = part_of(path)
    if part not in ALLOWED:
        return [f"{path}:1: {part} is no part that the table ALLOWED knows"]
    allowed = ALLOWED[part] | {part}
    may = ", ".join(sorted(ALLOWED[part])) or "no other part of kseq"
    problems = []
    for line, name in imports(path, source):
        top, _, target = name.partition(".")
        if target.partition(".")[0] not in ALLOWED:
            target = "kseq"  # `import kseq`, or a name out of kseq/__init__.py
        if top == "absl" and path != READS_FLAGS:
            problems.append(f"{path}:{line}: imports {name}; only {READS_FLAGS} may")
        elif top == "kseq" and not any(f"{target}.".startswith(f"{edge}.") for edge in allowed):
            problems.append(f"{path}:{line}: {part} → {name}; {part} may import: {may}")
    return problems


def bad_words(path: str, source: str) -> list[str]:
    found = [(n, FORBIDDEN.search(line)) for n, line in enumerate(source.splitlines(), start=1)]
    return [f"{path}:{n}: {word[0]!r} is forbidden" for n, word in found if word]


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, less those of the docstring."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - docstring


def bad_sizes(path: str, source: str) -> list[str]:
    problems = []
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > FUNCTION_LINES:
            lines = code_lines(node)
            problems.append(
                f"{path}:{node.lineno}: {node.name} has {lines} lines without its docstring; "
                f"{FUNCTION_LINES} are allowed"
            )
    return problems


def check_all(rule) -> None:
    assert FILES
    problems = [problem for path, source in sorted(FILES.items()) for problem in rule(path, source)]
    assert not problems, "\n" + "\n".join(problems)


def test_every_import_is_allowed():
    check_all(bad_imports)


def test_no_file_runs_code_that_it_reads():
    check_all(bad_words)


def test_functions_are_small():
    check_all(bad_sizes)


def test_the_init_of_tasks_is_empty():
    assert FILES.get("kseq/tasks/__init__.py") == ""


def test_bad_imports_are_found():
    may = "preprocessors may import: errors, files, layers.signal"
    source = """
import kseq.models.seq2seq
from kseq.layers import signal, attention
from ..data import toy
from .text import TextPreprocessor
def late():
    from kseq import tasks
    from kseq import Seq2Seq
    from absl import flags
    import numpy
"""
    assert bad_imports("kseq/preprocessors/image.py", source) == [
        f"kseq/preprocessors/image.py:2: preprocessors → kseq.models.seq2seq; {may}",
        f"kseq/preprocessors/image.py:3: preprocessors → kseq.layers.attention; {may}",
        f"kseq/preprocessors/image.py:4: preprocessors → kseq.data.toy; {may}",
        f"kseq/preprocessors/image.py:7: preprocessors → kseq.tasks; {may}",
        f"kseq/preprocessors/image.py:8: preprocessors → kseq.Seq2Seq; {may}",
        "kseq/preprocessors/image.py:9: imports absl.flags; only kseq/tasks/program.py may",
    ]
    assert bad_imports("kseq/config.py", "from . import losses") == [
        "kseq/config.py:1: config → kseq.losses; config may import: no other part of kseq"
    ]
    assert bad_imports("kseq/utils.py", "") == ["kseq/utils.py:1: utils is no part that the table ALLOWED knows"]


def test_good_imports_pass():
    assert not bad_imports("kseq/preprocessors/audio.py", "from kseq.layers.signal import LogMel")
    assert not bad_imports("kseq/preprocessors/audio.py", "import kseq.layers.signal as signal")
    assert not bad_imports("kseq/layers/decoder.py", "from . import cells\nfrom .attention import ATTENTIONS")
    assert not bad_imports("kseq/tasks/program.py", "from absl import app\nfrom kseq import config, training")
    assert not bad_imports("kseq/__init__.py", "from .layers.cells import GRUCell")
    assert bad_imports("kseq/__init__.py", "from .tasks import caption")


def test_bad_words_are_found():
    source = "import pickle\nliteral_eval(x)\neval(x)\nbuiltins.exec(x)\nevaluate(x)\nload(safe_mode=False)\n"
    assert bad_words("kseq/export.py", source) == [
        "kseq/export.py:1: 'pickle' is forbidden",
        "kseq/export.py:3: 'eval(' is forbidden",
        "kseq/export.py:4: 'exec(' is forbidden",
        "kseq/export.py:6: 'safe_mode' is forbidden",
    ]


def test_bad_sizes_are_found():
    docstring = '    """One\n    two\n    """\n'
    longest = "def f():\n" + docstring + "    x = 1\n" * 39
    assert not bad_sizes("kseq/plots.py", longest)
    assert bad_sizes("kseq/plots.py", longest + "    x = 2\n") == [
        "kseq/plots.py:1: f has 41 lines without its docstring; 40 are allowed"
    ]

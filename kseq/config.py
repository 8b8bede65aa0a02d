"""Configuration: schemas, TOML files of differences, `--set` overrides, and errors in plain sentences."""

import inspect
import json
import re
import tomllib
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
from functools import partial, reduce
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin

import pydantic

_BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
_PLAIN = {
    r"^\w+ should": "must",
    "^Field required": "must be set, in a file or by --set",
    "a valid array": 'a list, such as [1, 2] or ["a", "b"]',
    "a valid boolean": "true or false",
    "a valid integer.*": "a whole number",
    "a valid ": "a ",
    "an object": "a table",
    " after validation": "",
}
_DEEPEST = 20  # tables and lists in each other
_show = partial(json.dumps, ensure_ascii=False, default=str)


class Config(pydantic.BaseModel):
    """Base of all schemas: frozen, unknown keys forbidden, nothing converted but whole numbers to floats."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, serialize_by_alias=True
    )


class ConfigError(ValueError):
    """What is wrong with a configuration, one problem a line."""


def load(schema, path=None, overrides=(), base=None, under=None):
    """Lays a TOML file, then overrides, over the defaults of `schema`, table by table, and validates.

    An override is `dotted.key=value`; the value is read as TOML, or as plain text where it is not TOML or the
    schema wants a string. `base`, a config saved by `model_dump(mode="json")`, replaces the defaults; `under`, a pair
    (origin, {dotted key: value}), is laid over them before the file.
    Sections need a default to be laid over, `model: Model = Model()`. Raises `ConfigError` with all problems.

    >>> class Model(Config):
    ...     units: int = pydantic.Field(256, ge=1)
    >>> load(Model, overrides=["units=512"])
    Model(units=512)
    """
    known, problems = _known(schema), []
    defaults = schema.model_construct().model_dump(mode="json")
    layers = [("default", defaults) if base is None else ("base", base)]
    layers += [] if under is None else [(under[0], _table(key, value)) for key, value in under[1].items()]
    layers += _given(path, overrides, known, problems)
    problems += [
        f"{'.'.join(leaf)} = {_show(x)} ({origin}): must be a table"
        for origin, layer in layers
        for leaf, x in _leaves(layer)
        if not isinstance(x, dict) and x is not None and _is_section(known.get(".".join(leaf), ()))
    ]
    values = reduce(_merge, [layer for _, layer in layers])
    try:
        # As JSON, because strict validation of Python objects takes no list as a tuple and no text as a path.
        config = schema.model_validate_json(json.dumps(values, default=str))
    except pydantic.ValidationError as error:
        problems += [problem for problem in _problems(error, values, layers, known) if problem not in problems]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def given(schema, path=None, overrides=()):
    """The dotted keys that a file and overrides, as of `load`, name."""
    return {".".join(leaf) for _, layer in _given(path, overrides, _known(schema), []) for leaf, _ in _leaves(layer)}


def differences(a, b):
    """The keys on which two configs differ, as `model.units: 256 != 512`."""
    a, b = ({".".join(path): _show(x) for path, x in _leaves(c.model_dump(mode="json"))} for c in (a, b))
    pairs = ((key, a.get(key, "absent"), b.get(key, "absent")) for key in a | b)
    return [f"{key}: {x} != {y}" for key, x, y in pairs if x != y]


def to_toml(config):
    """A config as a TOML file that `load` reads back, each key below what its schema says of it.

    >>> class Model(Config):
    ...     "What is trained."
    ...
    ...     units: int = pydantic.Field(256, ge=1, description="of each direction")
    >>> class Experiment(Config):
    ...     model: Model = Model()
    >>> print(to_toml(Experiment()), end="")
    [model]
    # What is trained.
    <BLANKLINE>
    # of each direction; at least 1
    units = 256
    """
    return "\n".join(_toml_lines(config, "")).lstrip("\n") + "\n"


def _toml_lines(config, section):
    about = inspect.getdoc(type(config)) if section else ""
    lines = ["", f"[{section}]"] if section else []
    lines += [f"# {line}".rstrip() for line in (about or "").splitlines()]
    sections, saved = [], config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        key, value = field.alias or name, getattr(config, name)
        if isinstance(value, Config):
            sections += _toml_lines(value, f"{section}.{key}".lstrip("."))
            continue
        notes = [field.description] if field.description else []
        choices = [str(x) for part in _parts(field.annotation) if get_origin(part) is Literal for x in get_args(part)]
        notes += ["one of " + ", ".join(_show(choice) for choice in choices)] if choices else []
        bounds = [(words, getattr(m, bound, None)) for bound, words in _BOUNDS.items() for m in field.metadata]
        notes += [" and ".join(f"{words} {limit}" for words, limit in bounds if limit is not None)]
        note = "; ".join(note for note in notes if note)
        lines += ["", f"# {note}"] if note else []
        lines.append(f"# {key} is not set" if value is None else f"{key} = {_toml_value(saved[key])}")
    return lines + sections


def _toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_show(key)} = {_toml_value(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return _show(value).replace("\x7f", "\\u007f")  # of JSON's strings, TOML refuses this one alone


def _given(path, overrides, known, problems):
    """A file and overrides as [(origin, tables)]; what is wrong with them is added to `problems`."""
    layers = []
    try:
        if path is not None:
            layers.append((str(path), tomllib.loads(Path(path).read_text("utf-8"))))
    except RecursionError:
        problems.append(f"{path}: cannot be read as a TOML file: it is nested too deeply")
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read as a TOML file: {getattr(error, 'strerror', error)}")
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if key.count(".") > _DEEPEST:
            problems.append(f"--set {override[:40]}…: the key has too many parts")
        elif key and equals:
            value = _parse(text, known.get(key) or known.get(key.rpartition(".")[0], []))
            layers.append(("--set", _table(key, value)))
        else:
            problems.append(f"--set {override}: must be written KEY=VALUE")
    invalid = {origin: reason for origin, layer in layers if (reason := _beyond_json(layer))}
    problems += [f"{origin}: {reason}" for origin, reason in invalid.items()]
    return [(origin, layer) for origin, layer in layers if origin not in invalid]


def _beyond_json(value):
    """Why a value read from TOML cannot be checked; empty where it can."""
    level = [value]
    for _ in range(_DEEPEST):
        if any(isinstance(x, int) and abs(x) >= 2**63 for x in level):
            return "holds a whole number of more than 64 bits"
        level = [x for y in level if isinstance(y, dict | list) for x in (y.values() if isinstance(y, dict) else y)]
    return f"is nested more than {_DEEPEST} deep" if level else ""


def _known(schema, prefix=""):
    """Dotted key → the types and constraints that its annotation is made of."""
    known = {}
    for name, field in schema.model_fields.items():
        name = field.alias or name
        known[prefix + name] = [*field.metadata, *_parts(field.annotation)]
        for part in known[prefix + name]:
            if isinstance(part, type) and issubclass(part, Config):
                known |= _known(part, f"{prefix}{name}.")
    return known


def _parts(annotation):
    inner = [part for argument in get_args(annotation) for part in _parts(argument)]
    return [annotation, *getattr(annotation, "metadata", ()), *inner]


def _is_section(parts):
    """Whether of these parts of an annotation all are configs, or None."""
    kinds = [part for part in parts if isinstance(part, type)]
    plain = all(get_origin(part) in (None, Union, UnionType) for part in parts)
    return plain and bool(kinds) and all(issubclass(kind, Config | None) for kind in kinds)


def _parse(text, parts):
    try:
        value, *others = tomllib.loads(f"value = {text}").values()
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    fits = type(value) in (str, list, dict, *parts) or (type(value) is int and float in parts)
    return text if others or (not fits and any(x in parts for x in (str, Path, text))) else value


def _table(key, value):
    """The table that holds a value under a dotted key."""
    return reduce(lambda inner, name: {name: inner}, key.split(".")[::-1], value)


def _merge(under, over):
    tables = isinstance(under, dict) and isinstance(over, dict)
    return under | {name: _merge(under.get(name), x) for name, x in over.items()} if tables else over


def _leaves(value, path=()):
    if not isinstance(value, dict) or not value:
        return [(path, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(inner, (*path, name))]


def _follow(path, values):
    """The part of `path` that `values` have, and what lies there: pydantic adds the branches of unions."""
    found = ()
    for part in path:
        with suppress(KeyError, IndexError, TypeError):
            found, values = (*found, part), values[part]
    return found, values


def _problems(error, values, layers, known):
    found = {}
    for detail in error.errors():
        path, value = _follow(detail["loc"], values)
        missing, is_custom = detail["type"] == "missing", "error" in detail.get("ctx", {})
        for leaf, x in _leaves(value, path) if detail["type"] == "extra_forbidden" else [(path, value)]:
            subject = ".".join(map(str, leaf + detail["loc"][-1:] * missing))
            # No one value is to blame for one that is missing, or for what a section's validator says.
            if not missing and not (is_custom and isinstance(x, dict)):
                source = next(name for name, layer in reversed(layers) if _follow(leaf, layer)[0] == leaf)
                subject += f" = {_show(x)} ({source})"
            key = ".".join(part for part in leaf if isinstance(part, str))
            found.setdefault(subject, []).append(_sentence(detail, key, known))
    lines = [f"{subject}: {' or '.join(sentences)}" for subject, sentences in found.items()]
    return [line.removeprefix(": ").replace(" or must be ", " or ") for line in lines]


def _sentence(detail, key, known):
    context = detail.get("ctx", {})
    if detail["type"] == "extra_forbidden":
        return "unknown key, " + _nearest(key, known)
    if "error" in context:
        return str(context["error"])
    if _BOUNDS.keys() & context and (parts := known.get(key) or known.get(key.rpartition(".")[0])):
        limits = [(words, getattr(part, name, None)) for name, words in _BOUNDS.items() for part in parts]
        return "must be " + " and ".join(f"{words} {limit}" for words, limit in limits if limit is not None)
    plain = reduce(lambda text, rule: re.sub(*rule, text), _PLAIN.items(), detail["msg"])
    about = "its key " if detail["loc"][-1:] == ("[key]",) else ""
    choices = re.findall("'(.*?)'", context.get("expected", ""))
    near = get_close_matches(str(detail["input"]).lower(), choices, 1)
    return about + plain + (f", did you mean '{near[0]}'?" if near else "")


def _nearest(key, known):
    """Names the key most like `key` of those alike in the last word; if there is none, the keys beside it."""
    parent, _, last = key.rpartition(".")
    likeness = {}
    for name in known:
        alike = max(SequenceMatcher(None, word, name.rpartition(".")[2]).ratio() for word in (key, last))
        if alike >= 0.6 and name != parent:
            likeness[name] = alike + SequenceMatcher(None, key, name).ratio()
    beside = [name for name in known if name.rpartition(".")[0] == (parent if parent in known else "")]
    return f"did you mean {max(likeness, key=likeness.get)}?" if likeness else f"known: {', '.join(beside)}"

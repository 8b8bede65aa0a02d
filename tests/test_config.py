import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest

from kseq import config
from kseq.config import Config, ConfigError, differences, load, to_toml

Fraction = Annotated[float, pydantic.Field(ge=0, lt=1)]


class Model(Config):
    cell: Literal["lstm", "gru"] = "lstm"
    units: int = pydantic.Field(256, ge=1)
    dropout: Fraction = 0.1


class Data(Config):
    dev: str = "dev"
    folder: Path = Path("data")
    fields: dict[str, str] = pydantic.Field({"image": "jpg", "caption": "en"})
    weights: dict[str, Fraction] = pydantic.Field({})
    columns: dict[Literal["source", "target"], int] = pydantic.Field({})
    lengths: tuple[int, ...] = (8, 16)
    vocabulary: int | str = 1000
    split: str | None = None


class Training(Config):
    epochs: int = pydantic.Field(10, ge=1)
    warmup: int = 0
    rate: float = pydantic.Field(1e-3, gt=0)
    clip: Fraction | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    shuffle: bool = True
    bits: Literal["16", "32"] = "32"
    batch: int = pydantic.Field(64, multiple_of=8)
    seeds: list[Annotated[int, pydantic.Field(ge=0)]] = pydantic.Field([0], min_length=1)
    steps: Literal["auto"] | Annotated[int, pydantic.Field(ge=1)] = "auto"

    @pydantic.field_validator("rate")
    @classmethod
    def _rate_is_small(cls, rate):
        if rate > 1:
            raise ValueError("a rate above 1 diverges")
        return rate

    @pydantic.model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup > self.epochs:
            raise ValueError(f"warmup {self.warmup} must not exceed epochs {self.epochs}")
        return self


class Experiment(Config):
    # Other than the default of the class, which must not come back when a file sets one key of the section.
    model: Model = Model(units=128)
    data: Data = Data()
    training: Training = Training()
    teacher: Model | None = None
    stages: list[Model] = pydantic.Field([])

    @pydantic.model_validator(mode="after")
    def _data_fit_model(self):
        if self.data.dev == "none" and self.model.units > 1000:
            raise ValueError("a large model needs a dev split")
        return self


class Required(Config):
    train: str
    model: Model = Model()


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "x.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(schema=Experiment, path=None, overrides=(), base=None):
    with pytest.raises(ConfigError) as error:
        load(schema, path, overrides, base)
    return str(error.value).split("\n")


def saved(experiment):
    return json.loads(json.dumps(experiment.model_dump(mode="json")))


@pytest.mark.parametrize(
    "override, message",
    [
        # unknown keys
        ("model.unitz=5", "model.unitz = 5 (--set): unknown key, did you mean model.units?"),
        ("units=5", "units = 5 (--set): unknown key, did you mean model.units?"),
        ("data.warmup=5", "data.warmup = 5 (--set): unknown key, did you mean training.warmup?"),
        ("model.epochs=5", "model.epochs = 5 (--set): unknown key, did you mean training.epochs?"),
        ("modle.units=5", "modle.units = 5 (--set): unknown key, did you mean model.units?"),
        ("techer.units=5", "techer.units = 5 (--set): unknown key, did you mean teacher.units?"),
        ("model.rate=5", "model.rate = 5 (--set): unknown key, did you mean training.rate?"),
        ("model_units=5", "model_units = 5 (--set): unknown key, did you mean model.units?"),
        ("modle=5", "modle = 5 (--set): unknown key, did you mean model?"),
        ("modle={}", "modle = {} (--set): unknown key, did you mean model?"),
        ("model.x=5", "model.x = 5 (--set): unknown key, known: model.cell, model.units, model.dropout"),
        ("x=5", "x = 5 (--set): unknown key, known: model, data, training, teacher, stages"),
        ("y.x=5", "y.x = 5 (--set): unknown key, known: model, data, training, teacher, stages"),
        ("teacher.unit=5", "teacher.unit = 5 (--set): unknown key, did you mean teacher.units?"),
        ("stages=[{unit=5}]", "stages.0.unit = 5 (--set): unknown key, did you mean stages.units?"),
        # wrong types
        ("training.epochs=ten", 'training.epochs = "ten" (--set): must be a whole number'),
        ('training.epochs="3"', 'training.epochs = "3" (--set): must be a whole number'),
        ("training.epochs=3.0", "training.epochs = 3.0 (--set): must be a whole number"),
        ("training.epochs=3.5", "training.epochs = 3.5 (--set): must be a whole number"),
        ("training.epochs=true", "training.epochs = true (--set): must be a whole number"),
        ("training.epochs=", 'training.epochs = "" (--set): must be a whole number'),
        ("training.epochs=1\nx = 2", 'training.epochs = "1\\nx = 2" (--set): must be a whole number'),
        ("training.epochs.x=3", 'training.epochs = {"x": 3} (--set): must be a whole number'),
        ("training.rate=fast", 'training.rate = "fast" (--set): must be a number'),
        ("training.rate=2024-01-31", 'training.rate = "2024-01-31" (--set): must be a number'),
        ("training.rate=nan", "training.rate = NaN (--set): must be a finite number"),
        ("training.rate=inf", "training.rate = Infinity (--set): must be a finite number"),
        ("training.shuffle=yes", 'training.shuffle = "yes" (--set): must be true or false'),
        ("training.shuffle=1", "training.shuffle = 1 (--set): must be true or false"),
        ("data.dev=[1]", "data.dev = [1] (--set): must be a string"),
        ("data.fields.caption.x=1", 'data.fields.caption = {"x": 1} (--set): must be a string'),
        ("data.fields=1", 'data.fields = "1" (--set): must be a table'),
        ("model=5", "model = 5 (--set): must be a table"),
        ("data.lengths=5", 'data.lengths = 5 (--set): must be a list, such as [1, 2] or ["a", "b"]'),
        ("data.lengths=[8, true]", "data.lengths.1 = true (--set): must be a whole number"),
        ("data.vocabulary=[1]", "data.vocabulary = [1] (--set): must be a whole number or a string"),
        # lengths
        ("training.betas=[0.9]", "training.betas.1: must be set, in a file or by --set"),
        ("training.betas=[1, 2, 3]", "training.betas = [1, 2, 3] (--set): must have at most 2 items, not 3"),
        ("training.seeds=[]", "training.seeds = [] (--set): must have at least 1 item, not 0"),
        # ranges
        ("model.dropout=1.5", "model.dropout = 1.5 (--set): must be at least 0 and less than 1"),
        ("model.dropout=-1", "model.dropout = -1 (--set): must be at least 0 and less than 1"),
        ("training.clip=1", "training.clip = 1 (--set): must be at least 0 and less than 1"),
        ("training.rate=0", "training.rate = 0 (--set): must be greater than 0"),
        ("training.batch=9", "training.batch = 9 (--set): must be a multiple of 8"),
        ("training.seeds=[1, -1]", "training.seeds.1 = -1 (--set): must be at least 0"),
        ("data.weights.a=2", "data.weights.a = 2 (--set): must be at least 0 and less than 1"),
        ("teacher.units=0", "teacher.units = 0 (--set): must be at least 1"),
        ("stages=[{units=0}]", "stages.0.units = 0 (--set): must be at least 1"),
        # choices
        ("model.cell=ltsm", "model.cell = \"ltsm\" (--set): must be 'lstm' or 'gru', did you mean 'lstm'?"),
        ("model.cell=GRU", "model.cell = \"GRU\" (--set): must be 'lstm' or 'gru', did you mean 'gru'?"),
        ("model.cell=cnn", "model.cell = \"cnn\" (--set): must be 'lstm' or 'gru'"),
        ("training.bits=8", "training.bits = 8 (--set): must be '16' or '32'"),
        ("training.steps=0", "training.steps = 0 (--set): must be 'auto' or at least 1"),
        ("data.columns.x=1", "data.columns.x = 1 (--set): its key must be 'source' or 'target'"),
        # the schema's own validators
        ("training.rate=2", "training.rate = 2 (--set): a rate above 1 diverges"),
        ("training.warmup=11", "training: warmup 11 must not exceed epochs 10"),
        # no KEY=VALUE
        ("model.units", "--set model.units: must be written KEY=VALUE"),
        ("=5", "--set =5: must be written KEY=VALUE"),
        ("", "--set : must be written KEY=VALUE"),
    ],
)
def test_a_bad_override_is_explained(override, message):
    assert problems(overrides=[override]) == [message]


def test_a_validator_of_the_whole_speaks_for_itself():
    assert problems(overrides=["data.dev=none", "model.units=2000"]) == ["a large model needs a dev split"]


def test_problems_come_all_at_once_with_their_origin(write):
    path = write(
        """
        name = 1
        [model]
        cell = "grru"
        [training]
        epochs = "ten"
        rate = 3
        clip = nan
        [trainig]
        batch = 16
        warmup = 1
        """
    )
    assert problems(Experiment, path, ["model.units=0", "training.rate=4", "oops"]) == [
        "--set oops: must be written KEY=VALUE",
        f"model.cell = \"grru\" ({path}): must be 'lstm' or 'gru', did you mean 'gru'?",
        "model.units = 0 (--set): must be at least 1",
        f'training.epochs = "ten" ({path}): must be a whole number',
        "training.rate = 4 (--set): a rate above 1 diverges",
        f"training.clip = NaN ({path}): must be a finite number",
        f"name = 1 ({path}): unknown key, known: model, data, training, teacher, stages",
        f"trainig.batch = 16 ({path}): unknown key, did you mean training.batch?",
        f"trainig.warmup = 1 ({path}): unknown key, did you mean training.warmup?",
    ]


def test_an_empty_table_of_a_file_is_not_blamed_for_the_base(write):
    path = write("[model]\n")
    base = {"model": {"units": 0}, "old": {"x": 1}}
    assert problems(Experiment, path, base=base) == [
        "model.units = 0 (base): must be at least 1",
        "old.x = 1 (base): unknown key, known: model, data, training, teacher, stages",
    ]


def test_the_item_of_a_list_is_blamed_on_who_gave_the_list(write):
    path = write("training.seeds = [1, -1]")
    assert problems(path=path) == [f"training.seeds.1 = -1 ({path}): must be at least 0"]
    assert problems(path=path, overrides=["training.seeds=[-2]"]) == [
        "training.seeds.0 = -2 (--set): must be at least 0"
    ]


def test_a_bad_default_is_found():
    class Bad(Config):
        units: int = pydantic.Field(0, ge=1)

    assert problems(Bad) == ["units = 0 (default): must be at least 1"]


def test_a_missing_key_is_asked_for():
    assert problems(Required) == ["train: must be set, in a file or by --set"]
    assert load(Required, overrides=["train=a.tsv"]).train == "a.tsv"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[model]\nunits = \n", "Invalid value (at line 2, column 9)"),
        ("[model]\nunits 512\n", "Expected '=' after a key in a key/value pair (at line 2, column 7)"),
        ("units = 1\nunits = 2\n", "Cannot overwrite a value (at line 2, column 10)"),
        (b"x = '\xff'", "'utf-8' codec can't decode byte 0xff in position 5: invalid start byte"),
    ],
)
def test_a_file_that_is_not_toml(write, text, reason):
    path = write(text)
    assert problems(path=path) == [f"{path}: cannot be read as a TOML file: {reason}"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("a = " + "[" * 5000 + "]" * 5000, "cannot be read as a TOML file: it is nested too deeply"),
        ("a = " + "[" * 300 + "]" * 300, "is nested more than 20 deep"),
        (".".join(["a"] * 5000) + " = 1", "is nested more than 20 deep"),
        ("[training]\nepochs = 0x" + "f" * 5000, "holds a whole number of more than 64 bits"),
    ],
)
def test_a_file_that_is_too_deep_or_too_large_is_named(write, text, reason):
    path = write(text)
    assert problems(path=path) == [f"{path}: {reason}"]


def test_an_override_that_is_too_deep_is_named():
    key = ".".join(["model"] * 900)
    assert problems(overrides=[f"{key}=1"]) == [f"--set {key[:40]}…: the key has too many parts"]
    assert problems(overrides=["model.units=" + "[" * 400 + "]" * 400]) == ["--set: is nested more than 20 deep"]


@pytest.mark.parametrize("override", ["data.dev=x", "data.fields.image=x"])
def test_a_section_that_is_no_table_is_not_hidden_by_an_override(write, override):
    path = write("data = 3\n")
    assert problems(path=path, overrides=[override]) == [f"data = 3 ({path}): must be a table"]
    assert problems(overrides=["data=3", override]) == ["data = 3 (--set): must be a table"]


def test_a_config_is_written_as_toml_with_what_each_key_means(write):
    class Part(Config):
        """What is read."""

        from_: str = pydantic.Field("", alias="from", description="folder of a run")
        cell: Literal["lstm", "gru"] = "lstm"
        size: int = pydantic.Field(3, ge=1, lt=9, description="of it")
        names: dict[str, str] = pydantic.Field({"a b": 'quote " and \\ and \x7f\n'})
        rates: tuple[float, ...] = (1e-9, 2.0)
        plain: bool = True
        missing: str | None = None

    class Whole(Config):
        seed: int = 0
        part: Part = Part()

    text = to_toml(Whole())
    assert load(Whole, write(text)) == Whole()
    assert text.startswith('seed = 0\n\n[part]\n# What is read.\n\n# folder of a run\nfrom = ""\n')
    assert '# one of "lstm", "gru"\ncell = "lstm"\n' in text
    assert "# of it; at least 1 and less than 9\nsize = 3\n" in text and "# missing is not set" in text
    assert load(Experiment, write(to_toml(Experiment()))) == Experiment()


def test_no_file_and_a_folder(tmp_path):
    path = tmp_path / "none.toml"
    missing = f"{path}: cannot be read as a TOML file: No such file or directory"
    assert problems(path=path) == [missing]
    assert problems(path=str(path), overrides=["model.units=0"]) == [
        missing,
        "model.units = 0 (--set): must be at least 1",
    ]
    assert problems(path=tmp_path) == [f"{tmp_path}: cannot be read as a TOML file: Is a directory"]


@pytest.mark.parametrize(
    "override, value",
    [
        ("model.units=512", 512),
        (" model.units = 512 ", 512),
        ("model.cell=gru", "gru"),
        ("model.dropout=0", 0.0),
        ("training.rate=1e-4", 1e-4),
        ("training.shuffle=false", False),
        ("training.betas=[0, 0.5]", (0.0, 0.5)),
        ("training.bits=16", "16"),
        ("training.steps=auto", "auto"),
        ("training.steps=5", 5),
        ("data.lengths=[]", ()),
        ('data.dev="a = b"', "a = b"),
        ("data.dev=a = b", "a = b"),
        ("data.dev=", ""),
        ("data.dev=2017", "2017"),
        ("data.dev=1e3", "1e3"),
        ("data.dev=true", "true"),
        ("data.dev=2024-01-31T00:00:00Z", "2024-01-31T00:00:00Z"),
        ("data.dev=tsv:a b.tsv", "tsv:a b.tsv"),
        ("data.dev=1\nx = 2", "1\nx = 2"),
        ("data.folder=2017", Path("2017")),
        ("data.split=7", "7"),
        ("data.vocabulary=7", 7),
        ("data.vocabulary=true", "true"),
        ("data.columns.source=7", 7),
        ("data.fields.caption=2017", "2017"),
        ("teacher.units=5", 5),
        ("stages=[{units = 3}]", [Model(units=3)]),
    ],
)
def test_an_override_is_toml_or_plain_text(override, value):
    found = load(Experiment, overrides=[override])
    for name in override.partition("=")[0].strip().split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_precedence(write):
    path = write("[model]\nunits = 3\ndropout = 0.3\n")
    base = saved(Experiment(model=Model(cell="gru", units=2, dropout=0.2)))
    assert load(Experiment) == Experiment()
    assert load(Experiment, path).model == Model(units=3, dropout=0.3)
    assert load(Experiment, base=base).model == Model(cell="gru", units=2, dropout=0.2)
    assert load(Experiment, path, base=base).model == Model(cell="gru", units=3, dropout=0.3)
    overrides = ["model.dropout=0.4", "model.dropout=0.5"]
    assert load(Experiment, path, overrides, base).model == Model(cell="gru", units=3, dropout=0.5)
    assert load(Experiment, overrides=["model.dropout=0.5"]).model == Model(units=128, dropout=0.5)


def test_tables_merge_and_lists_do_not(write):
    path = write('[data]\nlengths = [4]\nfields.caption = "de"\nfields.region = "box"\n')
    merged = load(Experiment, path, ["data.fields.caption=zh", "data.weights={a = 0.5}"])
    assert merged.data.fields == {"image": "jpg", "caption": "zh", "region": "box"}
    assert merged.data.weights == {"a": 0.5}
    assert merged.data.lengths == (4,)
    assert load(Experiment).data.fields == {"image": "jpg", "caption": "en"}


def test_a_saved_config_loads_back_equal():
    before = load(
        Experiment,
        overrides=["training.betas=[0.5, 1]", "data.folder=a/b", "teacher.units=7", "stages=[{}, {units=2}]"],
    )
    assert load(Experiment, base=saved(before)) == before
    # A free table of the saved config is whole: the default's keys must not come back.
    fewer = Experiment(data=Data(fields={"text": "en"}))
    assert load(Experiment, base=saved(fewer)) == fewer
    assert load(Experiment, overrides=["data.fields.x=y"], base=saved(fewer)).data.fields == {
        "text": "en",
        "x": "y",
    }


def test_an_older_config_gets_the_defaults_of_newer_keys():
    assert load(Experiment, base={"model": {"cell": "gru", "units": 2}}) == Experiment(model=Model(cell="gru", units=2))


class Start(Config):
    from_: str = pydantic.Field("", alias="from")
    units: int = 4


class Started(Config):
    start: Start = Start()


def test_a_key_may_be_a_word_of_python():
    loaded = load(Started, overrides=["start.from=runs/a"])
    assert loaded.start.from_ == "runs/a" and loaded.model_dump(mode="json")["start"]["from"] == "runs/a"
    assert load(Started, base=loaded.model_dump(mode="json")) == loaded
    assert differences(Started(), loaded) == ['start.from: "" != "runs/a"']
    with pytest.raises(ConfigError, match=r"did you mean start\.from"):
        load(Started, overrides=["start.form=runs/a"])


def test_what_lies_under_the_file_is_over_the_defaults_and_named(write):
    path, under = write("[start]\nunits = 9\n"), ("runs/a", {"start.units": 8, "start.from": "b"})
    assert load(Started, under=under).start == Start(**{"from": "b"}, units=8)
    assert load(Started, path, under=under).start.units == 9
    with pytest.raises(ConfigError, match=r'start.units = "many" \(runs/a\): must be a whole number'):
        load(Started, under=("runs/a", {"start.units": "many"}))


def test_what_is_given_is_told_from_what_is_the_default(write):
    path = write("[start]\nunits = 4\n")
    assert config.given(Started, path, ["start.from=a", "bad"]) == {"start.units", "start.from"}
    assert config.given(Started) == set()


def test_a_config_is_frozen():
    experiment = load(Experiment)
    with pytest.raises(pydantic.ValidationError, match="Instance is frozen"):
        experiment.model = Model()
    with pytest.raises(pydantic.ValidationError, match="Instance is frozen"):
        experiment.model.units = 3


@pytest.mark.parametrize(
    "arguments", [{"units": "3"}, {"units": True}, {"dropout": float("nan")}, {"unit": 3}], ids=str
)
def test_a_config_made_by_hand_is_as_strict(arguments):
    with pytest.raises(pydantic.ValidationError, match=next(iter(arguments))):
        Model(**arguments)


def test_differences():
    a = load(Experiment)
    overrides = ["model.units=512", "data.dev=x", "training.betas=[1, 2]", "data.fields.x=y"]
    assert differences(a, load(Experiment, overrides=overrides)) == [
        "model.units: 128 != 512",
        'data.dev: "dev" != "x"',
        "training.betas: [0.9, 0.99] != [1.0, 2.0]",
        'data.fields.x: absent != "y"',
    ]
    assert differences(a, load(Experiment, overrides=["model.dropout=0.1"])) == []


def test_import_is_light():
    heavy = {"tensorflow", "keras", "numpy", "absl"}
    script = f"import sys, kseq.config; print(sorted({heavy} & set(sys.modules)))"
    root = Path(config.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_docstrings():
    assert doctest.testmod(config) == (0, 5)

"""What the library can do, reached from a config."""

import math

import numpy as np
import pytest

import kseq
from kseq import layers, runs
from kseq.config import ConfigError, load
from kseq.data import SetEpoch
from kseq.errors import UserError
from kseq.tasks import program
from kseq.tasks.caption import Caption
from kseq.tasks.generation import sampling_rate
from kseq.tasks.schema import ATTENTION_OPTIONS, Attention, Cell, DecoderConfig, GenerationTrainingConfig
from kseq.tasks.translate import Translate

SMALL = (
    "data.train_count=40",
    "data.dev_count=6",
    "data.test_count=3",
    "data.buckets=1",
    "model.units=8",
    "model.attention_units=8",
    "model.embedding_size=8",
    "model.encoder.units=4",
    "training.epochs=1",
    "training.batch_size=20",
    "sampler.width=2",
)


def prepared(workdir, changes):
    run = Translate(load(Translate.Config, overrides=[*SMALL, *changes]), workdir)
    run.prepare()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of two runs that differ in their seed."""
    folders = [tmp_path_factory.mktemp("runs") / name for name in "ab"]
    for seed, folder in enumerate(folders):
        config = load(Translate.Config, overrides=[*SMALL, f"seed={seed}"])
        program.train(Translate, folder, config, resume=False, show=0)
    return folders


# --- attention


def test_configs_know_what_the_dictionaries_hold():
    assert set(Attention.__args__) == layers.ATTENTIONS.keys() and set(Cell.__args__) == layers.CELLS.keys()
    fields = DecoderConfig.model_fields
    assert set(fields["decoder"].annotation.__args__) == layers.DECODERS.keys()
    assert set(fields["bridge"].annotation.__args__) == layers.BRIDGES.keys()
    assert {name: set(options) for name, options in ATTENTION_OPTIONS.items()} == {
        name: layers.attention_options(name).keys() for name in layers.ATTENTIONS
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local", "{ window = 3 }"),
        ("location", "{ filters = 2, kernel_size = 3, smoothing = true }"),
        pytest.param("monotonic", "{ noise = 0.0, score_bias = -2 }", marks=pytest.mark.slow),
        pytest.param("luong_monotonic", "{ hard = false }", marks=pytest.mark.slow),
        pytest.param("hard", "{ weight = 0.5, decay = 0.5 }", marks=pytest.mark.slow),
        pytest.param("scaled_luong", "{}", marks=pytest.mark.slow),
    ],
)
def test_each_mechanism_is_made_with_its_options(tmp_path, name, options):
    decoder = "luong" if "luong" in name else "bahdanau"
    changes = [f"model.attention={name}", f"model.attention_options={options}", f"model.decoder={decoder}"]
    run = prepared(tmp_path, changes)
    attention = run.model.decoder.attention
    assert type(attention) is layers.ATTENTIONS[name]
    for option, value in run.config.model.attention_options.items():
        assert getattr(attention, option) == value
    assert all(len(records) == 1 for records in run.answers([{"source": "un"}, {"source": "deux cent"}]))


@pytest.mark.parametrize("task", [Translate, Caption])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.attention_options={ window = 3 }"], "attention = bahdanau has no option window; it has scale_init"),
        (["model.attention=local", "model.attention_options={ windw = 3 }"], "no option windw; did you mean window?"),
        (["sampler.temperature=0.5"], "temperature is for random sampling; set method = random"),
        (["sampler.required=['x']", "sampler.width=1"], "required needs beam search: set width to 2 or more"),
        (["sampler.required=['x']", "sampler.method=random"], "required is for beam search, and method is random"),
        (
            ["model.decoder=luong", "model.readout_dropout=0.1"],
            "readout_dropout is for decoder = bahdanau with deep_out",
        ),
    ],
)
def test_a_wrong_option_is_told_without_tensorflow(task, changes, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load(task.Config, overrides=changes)


def test_a_wrong_value_of_an_option_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"model: window must be") as error:
        prepared(tmp_path, ["model.attention=local", "model.attention_options={ window = 0 }"])
    assert "\n" not in str(error.value)


# --- scheduled sampling


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 0.5, 0.5]),
        ("linear", [0, 0.25, 0.5]),
        ("sigmoid", [0.5 / (1 + math.exp(5)), 0.25, 0.5 / (1 + math.exp(-5))]),
    ],
)
def test_scheduled_sampling_follows_its_schedule(schedule, rates):
    config = GenerationTrainingConfig(epochs=3, scheduled_sampling=0.5, sampling_schedule=schedule)
    assert [sampling_rate(config, epoch) for epoch in range(3)] == pytest.approx(rates)


@pytest.mark.slow
def test_batches_carry_the_rate_of_their_epoch(tmp_path):
    run = prepared(tmp_path, ["training.scheduled_sampling=0.4", "training.epochs=3"])
    epoch = SetEpoch()
    batches = run.batches(epoch)
    for number, rate in enumerate([0, 0.2, 0.4]):
        epoch.on_epoch_begin(number)
        for inputs, _, _ in batches:
            np.testing.assert_allclose(inputs["sampling"], [rate] * len(inputs["tokens"]), rtol=1e-6)
    assert "sampling" not in next(iter(prepared(tmp_path / "b", []).batches(SetEpoch())))[0]
    run.model.compile(optimizer="sgd", loss=run.loss())
    assert np.isfinite(run.model.fit(batches, verbose=0, shuffle=False).history["loss"][0])


# --- samplers


def test_random_sampling_draws_several_texts_likeliest_first(trained):
    options = ["method=random", "width=1", "n=4", "temperature=2.0", "top_k=9"]
    run = runs.load_task(trained[0], overrides=[f"sampler.{option}" for option in options])
    [found] = run.answers([{"source": "deux cent"}], n=3)
    scores = [record["score"] for record in found]
    assert scores == sorted(scores, reverse=True) and len({record["text"] for record in found}) > 1
    [[one]], [[again]] = (run.answers([{"source": "deux cent"}]) for _ in range(2))
    assert (one["text"], one["score"]) == (again["text"], pytest.approx(again["score"]))


def test_more_answers_than_the_beam_has_are_refused(trained):
    run = runs.load_task(trained[0])
    assert [len(records) for records in run.answers([{"source": "un"}], n=2)] == [2]
    with pytest.raises(UserError, match=r"3 answers were asked for, and sampler.width is 2; set it to 3 or more"):
        run.answers([{"source": "un"}], n=3)


def test_required_words_are_in_every_text(trained):
    run = runs.load_task(trained[0], overrides=['sampler.required=["hundred", "and twenty"]', "sampler.width=4"])
    for [record] in run.answers([{"source": "un"}, {"source": "deux cent"}]):
        assert "hundred" in record["text"] and "and twenty" in record["text"]
    with pytest.raises(UserError, match=r"sampler.required has 'zebra', and the vocabulary of the run does not have"):
        runs.load_task(trained[0], overrides=['sampler.required=["zebra"]']).answers([{"source": "un"}])


def test_the_exported_model_requires_the_same_words(trained, tmp_path):
    run = kseq.load(trained[0], overrides=['sampler.required=["hundred"]', "sampler.width=4"])
    assert "hundred" in run.export(tmp_path / "export")["text"]


def test_an_ensemble_says_what_its_mean_says(trained):
    """Oracle: the mean of the log-probabilities that both models give to the text, token by token."""
    run = runs.load_task(trained[0], overrides=[f"sampler.ensemble=['{trained[1]}']", "sampler.width=1"])
    [[record]] = run.answers([{"source": "deux cent"}])
    ids = run.target.ids([record["text"]]).numpy()[0]
    read = run.source.read(["deux cent"])
    mean = 0
    for model in (run.model, run.ensemble[0].model):
        tokens = np.array([[1, *ids]], "int32")
        logits = np.array(model({"source": read.inputs, "tokens": tokens}))[0].astype("float64")
        mean = mean + (logits - np.log(np.exp(logits).sum(-1, keepdims=True))) / 2
    mean[:, [0, 1, 3]] = -np.inf
    mean -= np.log(np.exp(mean).sum(-1, keepdims=True))
    assert record["score"] == pytest.approx(sum(mean[t, i] for t, i in enumerate([*ids, 2])), abs=1e-3) or len(ids) > 59
    assert len(run.parts()) == 4
    assert all(one is other for one, other in zip(run.anew().models, run.models, strict=True))  # in their precision


def test_an_ensemble_needs_one_vocabulary(trained, tmp_path):
    changes = [*SMALL, "data.train_count=20"]
    program.train(Translate, tmp_path / "c", load(Translate.Config, overrides=changes), resume=False, show=0)
    run = runs.load_task(trained[0], overrides=[f"sampler.ensemble=['{tmp_path / 'c'}']"])
    with pytest.raises(UserError, match=r"sampler.ensemble: .* has another vocabulary; runs that vote need the same"):
        run.answers([{"source": "un"}])

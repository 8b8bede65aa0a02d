"""Encoders that come from elsewhere: from another run, or pretrained ones from keras-hub."""

from functools import reduce
from typing import NamedTuple

import kseq
from kseq import runs
from kseq.checkpoints import read_progress
from kseq.config import given, load
from kseq.errors import UserError
from kseq.files import read_json
from kseq.tasks.schema import EncoderRateConfig, EncoderSourceConfig

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: a wrong
# `model.encoder.from` is answered at once.

PRETRAINED = "encoder.json"


class Start(NamedTuple):
    """The encoder that a new run starts from."""

    text: object  # the preprocessor of what the encoder reads
    encoder: object  # with its weights
    name: object  # the folder or preset that they come from


def load_config(task, path=None, overrides=(), *, resumed=None):
    """The config of a run to be trained; the settings of its encoder are those of the run that it starts from.

    Args:
        task: subclass of `Task`.
        path: TOML file, as of `kseq.config.load`.
        overrides: as of `kseq.config.load`.
        resumed: folder of the run itself when it is resumed: the other run is then no longer needed.

    Raises:
        ConfigError: as of `kseq.config.load`.
        UserError: there is no such run, its encoder is of another kind, or a given key contradicts it or has no
            meaning for an encoder that comes from elsewhere.
    """
    config = load(task.Config, path, overrides)
    if not (isinstance(config, EncoderSourceConfig) and config.model.encoder.start):
        return config
    start = _start(config)
    if start:
        resumes = resumed and runs.is_run(resumed) and read_progress(resumed)
        other = runs.read_begun_run(resumed) if resumes else read_encoder_run(start)
        settings = other.config.encoder_settings()
        config = load(task.Config, path, overrides, under=(f"{start}/config.json", config.encoder_overrides(settings)))
        agree(config, settings)
    named = given(task.Config, path, overrides)
    unused = [key for key in config.unused_keys() if key in named]
    if unused:
        begun = f"from={start}" if start else f"pretrained={config.model.encoder.start}"
        raise UserError(f"model.encoder.{begun} has no use for {', '.join(unused)}; leave that out")
    return config


def agree(config, settings):
    """Raises `UserError` unless the encoder of a config has these `encoder_settings`."""
    asked, hub = config.encoder_settings(), settings.get("pretrained")
    if hub and "pretrained" not in config.encoder_keys:
        raise UserError(
            f"model.encoder.from={_start(config)} has the encoder {hub}, which only classify and entail take"
        )
    there = config.encoder_overrides(settings)
    wrong = [
        f"{key} is {reduce(getattr, key.split('.'), config)!r}, there {there[key]!r}"
        for name, key in config.encoder_keys.items()
        if asked[name] != settings.get(name, "")
    ]
    if wrong:
        raise UserError(
            f"model.encoder.from={_start(config)} has another encoder ({'; '.join(wrong)}); leave these keys out to "
            "take its settings"
        )


def read_encoder_run(folder):
    """The `kseq.runs.Description` of the trained run in a folder.

    Raises:
        UserError: there is none, or it is one whose encoder reads no texts.
    """
    try:
        run = runs.read_trained_run(folder)
    except UserError as error:
        raise UserError(f"model.encoder.from: {error}") from None
    if not issubclass(run.task.Config, EncoderSourceConfig):
        raise UserError(f"model.encoder.from={folder} is a run of {run.task.name}, whose encoder reads no texts")
    return run


def load_start(config):
    """The `Start` of a config; None where the encoder is new."""
    if not isinstance(config, EncoderSourceConfig):
        return None
    encoder = config.model.encoder
    if encoder.from_:
        other = read_encoder_run(encoder.from_).config
        agree(config, other.encoder_settings())
        made, asked = other.training.precision, config.training.precision
        if getattr(encoder, "preset", "") and made != asked:
            raise UserError(
                f"training.precision is {asked}, and the pretrained encoder of model.encoder.from={encoder.from_} "
                f"computes in {made}; both must be the same"
            )
        run = runs.load_task(encoder.from_)
        return Start(run.text, run.model.encoder, encoder.from_)
    return preset(encoder.preset, config.data.length()) if encoder.preset else None


def preset(name, max_length):
    """The `Start` that keras-hub has under a name or in a folder."""
    text = kseq.preprocessors.WordPieces.from_preset(name, max_length)
    try:
        encoder = kseq.models.PretrainedEncoder.from_preset(name, text.tokenizer.sep_token_id)
    except ValueError as error:
        raise UserError(f"model.encoder.pretrained: {error}") from None
    return Start(text, encoder, name)


def words(start, max_length):
    """What numbers the words that the encoder of a `Start` reads, for texts of at most so many."""
    return start.text.with_max_length(max_length)


def load_words(config, path, tokenizer):
    """The preprocessor of a run, as it was saved at `path`.

    Raises:
        UserError: it cannot be read, or splits texts otherwise than `tokenizer()`, the one of the config.
    """
    length = config.data.length()
    if config.model.encoder.preset:
        return kseq.preprocessors.WordPieces.load(path).with_max_length(length)
    return read_words(path, length, tokenizer())


def read_words(path, max_length, tokenizer):
    """The `TextPreprocessor` that was saved at `path`, for texts of so many tokens.

    Raises:
        UserError: it cannot be read, or splits texts otherwise than the tokenizer.
    """
    text = kseq.preprocessors.TextPreprocessor.load(path).with_max_length(max_length)
    if not text.tokenizer.same_as(tokenizer):
        raise UserError(
            f"{path} was made with {_described(text.tokenizer)}, the config asks for {_described(tokenizer)}"
        )
    return text


def _described(tokenizer):
    units = {kind: unit for unit, kind in kseq.preprocessors.UNITS.items()}
    options = "".join(f", {name} = {x!r}" for name, x in tokenizer.get_config().items() if name != "model")
    return f"unit = {units.get(type(tokenizer), type(tokenizer).__name__)!r}{options}"


def take_encoder(model, start):
    """Gives the encoder of a model the weights of a `Start`."""
    model.encoder.set_weights(start.encoder.get_weights())
    print(f"the encoder and its {len(start.text.vocabulary)} words are those of {start.name}", flush=True)


def save_encoder(start, workdir):
    """Writes how the pretrained encoder of a `Start` is made, for the runs that go on with it."""
    kseq.files.write_json(workdir / PRETRAINED, start.encoder.get_config())


def load_encoder(config, workdir, texts):
    """The pretrained encoder that `save_encoder` wrote, with new weights, for so many texts in one.

    Raises:
        UserError: there are too few places for their pieces.
    """
    encoder = kseq.models.PretrainedEncoder.from_config(read_json(workdir / PRETRAINED))
    most = (encoder.longest - 1) // texts - 1
    if config.data.length() > most:
        raise UserError(
            f"data.max_length is {config.data.length()} and may be {most} at most: {config.model.encoder.preset} has "
            f"places for {encoder.longest} pieces of words"
        )
    encoder.trainable = config.model.encoder.trainable
    return encoder


def scales(model, config):
    """For each trained variable of a model, what `training.learning_rate` is multiplied by; none where all have it."""
    rate = getattr(config.model, "encoder", EncoderRateConfig()).learning_rate
    if not rate:
        return ()
    encoder = {id(variable) for variable in model.encoder.trainable_variables}
    ratio = rate / config.training.learning_rate
    return tuple(ratio if id(variable) in encoder else 1.0 for variable in model.trainable_variables)


def _start(config):
    # Pictures have no other run to begin with.
    return getattr(config.model.encoder, "from_", "")

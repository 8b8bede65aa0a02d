"""The parts of a configuration that tasks share."""

from difflib import get_close_matches
from functools import reduce
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from kseq.config import Config


class TrainingConfig(Config):
    """How a model is trained."""

    epochs: int = Field(6, ge=1, description="maximum number of epochs, unless steps is set")
    steps: int = Field(0, ge=0, description="maximum number of steps, in place of epochs; 0 counts epochs")
    batch_size: int = Field(64, ge=1, description="examples in a batch")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are averaged for a step")
    learning_rate: float = Field(1e-3, gt=0, description="initial learning rate of Adam")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "cosine",
        description="learning rate: constant, falling to a twentieth, or halved after an epoch without gain",
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the learning rate rises from 0")
    clip_norm: float = Field(5.0, gt=0, description="gradients are clipped to this global norm")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability that is spread evenly over all classes")
    average: float = Field(0.0, ge=0, lt=1, description="decay of the moving average of the weights; 0 keeps none")
    patience: int = Field(5, ge=0, description="epochs without a better score before the run ends")
    save_minutes: float = Field(
        0.0, ge=0, description="minutes between checkpoints within an epoch; 0 saves at the end of each epoch only"
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Keras' dtype policy"
    )
    xla: bool = Field(False, description="compile the training step with XLA")
    cudnn: bool = Field(True, description="train lstm and rnn cells with cuDNN's kernel, on a GPU and without xla")
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none", description="one device, all GPUs of this machine, or all workers of TF_CONFIG"
    )

    @model_validator(mode="after")
    def _strategy_fits(self):
        if self.strategy != "none" and self.xla:
            raise ValueError(f"xla compiles a step for one device; with strategy={self.strategy} set xla=false")
        if self.strategy == "multi_worker" and self.save_minutes:
            raise ValueError("save_minutes is for one process; with strategy=multi_worker set save_minutes=0")
        return self


class SplitsConfig(Config):
    """Which examples a model is trained on, which select its best epoch, and on which it is tested."""

    train: str = "train"
    dev: str = Field("dev", description="split that selects the best epoch")
    test: str = Field("", description="split for the final score; if empty, see test_holdout (generated data have one)")
    holdout: float = Field(0.0, ge=0, lt=1, description="share of train held out as dev, if dev is no split of its own")
    test_holdout: float = Field(0.0, ge=0, lt=1, description="share of train held out as test; see holdout")
    train_count: int = Field(0, ge=0, description="at most this many examples; 0 takes all")
    dev_count: int = Field(0, ge=0, description="as train_count")
    test_count: int = Field(0, ge=0, description="as train_count")

    @model_validator(mode="after")
    def _splits_fit(self):
        if self.holdout and self.dev != "dev":
            raise ValueError(f"holdout takes dev out of {self.train}, and dev = {self.dev} names a split; set only one")
        if self.test_holdout and self.test:
            raise ValueError(
                f"test_holdout takes test out of {self.train}, and test = {self.test} names a split; set only one"
            )
        if self.holdout + self.test_holdout >= 1:
            raise ValueError(f"holdout and test_holdout leave nothing of {self.train}; their sum must be below 1")
        return self

    def split(self, name):
        """What the source calls "train", "dev" or "test"; empty where it has no such split."""
        if name == "test" and not self.test and self.source.startswith("toy:"):
            return "test"
        return getattr(self, name)

    def named_fields(self):
        """{role: what the source calls it}; nothing for a source that has no fields."""
        fields = getattr(self, "fields", {})
        return fields if isinstance(fields, dict) else fields.model_dump()

    def shares(self):
        """{"dev" or "test": the share of train that is held out for it}."""
        shares = {"dev": self.holdout, "test": self.test_holdout}
        return {name: share for name, share in shares.items() if share}

    def own_splits(self):
        """{key: what the source calls it} of the splits that are not held out of another."""
        names = [name for name in ("train", *self.scored()) if name not in self.shares()]
        return {f"data.{name}": self.split(name) for name in names}

    def scored(self):
        """The splits a model can be scored on: "dev", and "test" where there is one."""
        return ("dev", "test") if self.test_holdout or self.split("test") else ("dev",)


class ServingConfig(Config):
    """What the exported model answers; see Serving in README.md."""

    batch_size: int = Field(64, ge=1, description="examples answered at once; a larger batch is answered in parts")
    weights: Literal["float32", "float16", "int8"] = Field(
        "float32", description="how matrices and embeddings are stored; the others are half and a quarter as large"
    )


class TextServingConfig(ServingConfig):
    """What the exported model answers; see Serving in README.md."""

    max_characters: int = Field(50_000, ge=1, description="most characters of a text; a longer one is refused")


class BestServingConfig(ServingConfig):
    """What the exported model answers; see Serving in README.md."""

    n_best: int = Field(
        0,
        ge=0,
        le=100,
        description="answers to an example in the signature nbest; 0 takes sampler.width or, at random, sampler.n",
    )


class BestTextServingConfig(BestServingConfig, TextServingConfig):
    """What the exported model answers; see Serving in README.md."""


class FileServingConfig(BestServingConfig):
    """What the exported model answers; see Serving in README.md."""

    max_bytes: int = Field(25_000_000, ge=1, description="most bytes of a file; a larger one is refused")


class GenerationTrainingConfig(TrainingConfig):
    """How a model that writes text is trained."""

    scheduled_sampling: float = Field(
        0.0,
        ge=0,
        le=1,
        description="largest probability of reading a token that the model drew instead of the given one",
    )
    sampling_schedule: Literal["constant", "linear", "sigmoid"] = Field(
        "linear", description="how that probability grows over the epochs"
    )

    @model_validator(mode="after")
    def _schedule_fits(self):
        if self.scheduled_sampling and self.sampling_schedule != "constant" and self.steps:
            raise ValueError(
                f"sampling_schedule = {self.sampling_schedule} counts epochs, and steps = {self.steps} replaces them; "
                "set sampling_schedule = constant, or epochs without steps"
            )
        return self


class TextDataConfig(SplitsConfig):
    """Which examples of texts, and how they are read."""

    source: str
    columns: tuple[str, ...] = Field((), description="of a table whose first line does not name them")
    quotes: bool = Field(False, description="for tsv: fields may stand in quotation marks")
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field("stop", description="what becomes of a line not in UTF-8")
    normalize: Literal["none", "nfc", "nfkc"] = "none"
    min_count: int = Field(1, ge=1, description="words that occur less often in training are unknown")
    cache: str = Field("runs/cache", description="folder that keeps encoded texts, so that the next run starts at once")
    processes: int = Field(1, ge=1, le=256, description="processes that encode the texts; see docs/scale.md")


Cell = Literal["rnn", "lstm", "gru", "peephole", "layer_norm_lstm", "layer_norm_gru"]
Attention = Literal[
    "bahdanau",
    "normalized",
    "luong",
    "scaled_luong",
    "concat",
    "dot",
    "local",
    "location",
    "coverage",
    "monotonic",
    "luong_monotonic",
    "hard",
]
# The options of each mechanism. A test compares them with `kseq.layers.attention_options`, which needs TensorFlow.
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_SCALE = ("scale_initializer", *_KERNEL)
_BIAS = ("use_bias", "bias_initializer", "bias_regularizer", "bias_constraint")
_MONOTONIC = ("score_bias", "noise", "hard", "seed")
ATTENTION_OPTIONS = {
    "bahdanau": _SCALE,
    "normalized": (*_BIAS, *_SCALE),
    "luong": _KERNEL,
    "scaled_luong": _KERNEL,
    "concat": _SCALE,
    "dot": ("scaled",),
    "local": ("window", *_KERNEL),
    "location": ("filters", "kernel_size", "sharpening", "smoothing", "window", *_BIAS, *_SCALE),
    "coverage": ("weight", *_BIAS, *_SCALE),
    "monotonic": (*_MONOTONIC, *_BIAS, *_SCALE),
    "luong_monotonic": (*_MONOTONIC, *_KERNEL),
    "hard": ("weight", "decay", "seed", *_SCALE),
}


class DecoderConfig(Config):
    """The decoder: a recurrent cell that attends to what the encoder has read, and writes one token at a time."""

    cell: Cell = Field("gru", description="recurrent cell of the decoder")
    units: int = Field(128, ge=1, description="size of the decoder's state")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers of the decoder")
    residual: bool = Field(False, description="add the input of a layer to its output, from the second layer on")
    decoder: Literal["bahdanau", "luong", "fixed"] = Field(
        "bahdanau", description="attend before the cell (bahdanau), after it (luong), or not at all (fixed)"
    )
    attention: Attention = Field("bahdanau", description="attention mechanism; a name of kseq.layers.ATTENTIONS")
    attention_units: int = Field(128, ge=1, description="size of the attention mechanism, if it has one")
    attention_options: dict[str, bool | int | float | str] = Field(
        {}, description="other arguments of the mechanism's class, such as { window = 3 } for local"
    )
    gate: bool = Field(False, description="for bahdanau: a gate that scales the context, as in Show, Attend and Tell")
    deep_output: bool = Field(True, description="for bahdanau: read the previous token and the context in the output")
    readout_dropout: float = Field(
        0.0, ge=0, lt=1, description="for deep_output: probability in training that a step's output ignores the state"
    )
    input_feeding: bool = Field(True, description="for luong: give the attentional state to the next step of the cell")
    bridge: Literal["dense", "copy", "zero"] = Field("dense", description="how the encoder's state starts the decoder")
    embedding_size: int = Field(64, ge=1, description="size of the vector of a token")
    embedding_range: float = Field(0.5, gt=0, description="token vectors are initialized uniformly in [-x, x]")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate of the token vectors and of the decoder's output")
    alignment_penalty: float = Field(
        0.0, ge=0, description="weight of the doubly stochastic penalty: attend to every position once in total"
    )
    output_bias: Literal["zero", "frequency"] = Field(
        "frequency", description="start from equal probabilities, or from how often training has each token"
    )

    @model_validator(mode="after")
    def _decoder_fits(self):
        if self.decoder == "fixed" and self.bridge == "zero":
            raise ValueError(
                "the fixed decoder knows of the source only what the bridge brings, and bridge = zero brings nothing"
            )
        # As gate and deep_output, a default may stand where it has no use, so that one key changes the decoder.
        unchanged = (0, type(self).model_fields["readout_dropout"].default)
        if self.readout_dropout not in unchanged and not (self.decoder == "bahdanau" and self.deep_output):
            raise ValueError("readout_dropout is for decoder = bahdanau with deep_output = true")
        if self.decoder == "fixed" and self.alignment_penalty:
            raise ValueError("alignment_penalty asks attention to look everywhere; the fixed decoder has none")
        for name in self.attention_options:
            if name not in ATTENTION_OPTIONS[self.attention]:
                known = ", ".join(ATTENTION_OPTIONS[self.attention])
                near = get_close_matches(name, ATTENTION_OPTIONS[self.attention], 1)
                hint = f"did you mean {near[0]}?" if near else f"it has {known}"
                raise ValueError(f"attention_options: attention = {self.attention} has no option {name}; {hint}")
        return self


class SamplerConfig(Config):
    """How text is generated."""

    method: Literal["search", "random"] = Field(
        "search", description="the likeliest text by greedy or beam search, or one drawn at random"
    )
    width: int = Field(1, ge=1, le=100, description="prefixes kept by beam search; 1 is greedy search")
    length_penalty: float = Field(0.0, ge=0, le=5, description="of beam search: larger values favour longer texts")
    temperature: float = Field(1.0, gt=0, description="of random sampling: values below 1 make likely tokens likelier")
    top_k: int = Field(0, ge=0, description="of random sampling: draw from the k likeliest tokens; 0 is all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="of random sampling: draw from the likeliest tokens that together have this share"
    )
    n: int = Field(1, ge=1, le=1000, description="of random sampling: texts drawn, of which the likeliest is returned")
    min_length: int = Field(0, ge=0, description="least tokens of a text, the end token included")
    no_repeat: int = Field(0, ge=0, description="n-grams of this size are never repeated; 0 allows it")
    required: tuple[str, ...] = Field((), description="words or phrases that every text must contain; needs width > 1")
    ensemble: tuple[str, ...] = Field((), description="folders of other runs that vote on each token with this one")

    @model_validator(mode="after")
    def _method_fits(self):
        drawn = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "n": 1}
        for name, default in drawn.items():
            if self.method == "search" and getattr(self, name) != default:
                raise ValueError(f"{name} is for random sampling; set method = random")
        if self.method == "random" and self.required:
            raise ValueError("required is for beam search, and method is random")
        if self.required and self.width == 1:
            raise ValueError("required needs beam search: set width to 2 or more")
        return self


class TextSamplerConfig(SamplerConfig):
    """How a text is generated from another text."""

    coverage_penalty: float = Field(
        0.0, ge=0, description="of beam search: favours texts that attend to all of the source"
    )
    replace_unknown: bool = Field(
        False, description="write the source word with the most attention in place of an unknown word"
    )


class EncoderRateConfig(Config):
    """The learning rate of an encoder."""

    learning_rate: float = Field(0.0, ge=0, description="learning rate of the encoder; 0 uses training.learning_rate")


class StartConfig(EncoderRateConfig):
    """Where the weights of an encoder come from, and whether they are trained."""

    from_: str = Field("", alias="from", description="folder of a run whose encoder this one starts from")
    trainable: bool = Field(True, description="false keeps the encoder as it starts")

    @property
    def preset(self):
        """The name that keras-hub has for the encoder; empty for an encoder of kseq."""
        return ""

    @property
    def start(self):
        """What the encoder starts from; empty when its weights are new."""
        return self.from_ or self.preset

    @model_validator(mode="after")
    def _start_fits(self):
        if not self.trainable and not self.start:
            raise ValueError("trainable = false is for an encoder that has been trained before, and this one is new")
        if not self.trainable and self.learning_rate:
            raise ValueError("learning_rate is for an encoder that is trained, and trainable is false")
        return self


class PretrainedConfig(StartConfig):
    """The same when the encoder may also be a pretrained one of the BERT family."""

    pretrained: str = Field("", description="keras-hub preset of the encoder: a name, or a folder")

    @property
    def preset(self):
        return self.pretrained


class EncoderSourceConfig(Config):
    """A config whose text encoder can start from the encoder of another run, of any task.

    `encoder_keys` maps each setting that both runs must agree on, {name: dotted key of this schema}.
    """

    encoder_keys: ClassVar[dict[str, str]] = {}

    def encoder_settings(self):
        """{name: value} of the settings that must agree."""
        return {name: reduce(getattr, key.split("."), self) for name, key in self.encoder_keys.items()}

    def encoder_overrides(self, settings):
        """{dotted key: value} of this schema for the `encoder_settings` of another config."""
        return {key: settings.get(name, "") for name, key in self.encoder_keys.items()}

    def unused_keys(self):
        """The dotted keys that have no meaning for an encoder that starts from elsewhere."""
        return ()


# --- texts from texts

LENGTHS = {"caption": 60, "word": 60, "subword": 100, "character": 300, "byte": 400}  # when max_length is 0


class PairFields(Config):
    """The names that the source has for the parts of an example."""

    source: str = Field(min_length=1, description="of the text that is read")
    target: str = Field(min_length=1, description="of the text that is written")
    split: str = Field("", description="of the field that holds the split, if there is one")


class PairDataConfig(TextDataConfig):
    """Which pairs of texts, and how they are read."""

    fields: PairFields
    unit: Literal["caption", "word", "subword", "character", "byte"] = Field("word", description="what a token is")
    lower_case: Literal["none", "source", "both"] = Field("none", description="which sides are put into lower case")
    vocabulary_size: int = Field(10_000, ge=5, description="most tokens of the vocabulary")
    target_vocabulary_size: int = Field(0, ge=0, description="of the target's vocabulary; 0 takes vocabulary_size")
    shared: bool = Field(False, description="one vocabulary for both sides")
    max_length: int = Field(0, ge=0, le=2000, description="most tokens of a text; 0 is a default of the unit")
    max_target_length: int = Field(0, ge=0, le=2000, description="most tokens of a target; 0 takes max_length")
    buckets: int = Field(5, ge=1, le=20, description="groups of similar length that batches are made of")

    @model_validator(mode="after")
    def _one_case(self):
        if self.shared and self.lower_case == "source":
            raise ValueError('lower_case = "source" and shared = true: one vocabulary has one case, none or both')
        return self

    def lengths(self):
        """Most tokens of a source and of a target."""
        source = self.max_length or LENGTHS[self.unit]
        return source, self.max_target_length or source


class TextEncoderConfig(StartConfig):
    """The encoder of the source."""

    cell: Literal["", Cell] = Field("", description="recurrent cell; if empty, that of the decoder")
    units: int = Field(128, ge=1, description="size of the state in each direction")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers")
    bidirectional: bool = Field(True, description="read in both directions")
    residual: bool = Field(False, description="add the input of a layer to its output, from the second layer on")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the token vectors, and between layers")


class PairModelConfig(DecoderConfig):
    """An encoder of texts and a decoder."""

    coverage_weight: float = Field(0.0, ge=0, description="weight of the penalty of attention = coverage")
    max_oov_words: int = Field(0, ge=0, description="most out-of-vocabulary words of a source that can be copied")
    encoder: TextEncoderConfig = TextEncoderConfig()

    @model_validator(mode="after")
    def _pair_model_fits(self):
        if self.coverage_weight and (self.decoder == "fixed" or self.attention != "coverage"):
            raise ValueError("coverage_weight is for attention = coverage")
        if self.coverage_weight and "weight" in self.attention_options:
            raise ValueError("coverage_weight and attention_options.weight are the same; set one of them")
        if self.max_oov_words and self.decoder == "fixed":
            raise ValueError("max_oov_words copies by attention; the fixed decoder has none")
        return self


class PairConfig(EncoderSourceConfig):
    """One experiment that writes texts from texts."""

    encoder_keys: ClassVar = {
        "unit": "data.unit",
        "lower_case": "data.lower_case",
        "normalize": "data.normalize",
        "vocabulary_size": "data.vocabulary_size",
        "cell": "model.encoder.cell",
        "units": "model.encoder.units",
        "layers": "model.encoder.layers",
        "bidirectional": "model.encoder.bidirectional",
        "residual": "model.encoder.residual",
        "embedding_size": "model.embedding_size",
    }
    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: PairDataConfig
    model: PairModelConfig = PairModelConfig()
    training: GenerationTrainingConfig = GenerationTrainingConfig()
    sampler: TextSamplerConfig = TextSamplerConfig()
    serving: BestTextServingConfig = BestTextServingConfig()

    @model_validator(mode="after")
    def _sampler_fits(self):
        longest = self.data.lengths()[1] + 1
        if self.sampler.min_length > longest:
            raise ValueError(f"sampler.min_length is {self.sampler.min_length}, and no text has more than {longest}")
        if self.sampler.replace_unknown and self.model.decoder == "fixed":
            raise ValueError("sampler.replace_unknown goes by the attention; the fixed decoder has none")
        if self.model.max_oov_words and not self.data.shared:
            raise ValueError(
                "model.max_oov_words copies words as they are; it needs one vocabulary, data.shared = true"
            )
        return self

    def encoder_settings(self):
        cell = self.model.encoder.cell or self.model.cell
        return super().encoder_settings() | {"lower_case": self.data.lower_case != "none", "cell": cell}

    def encoder_overrides(self, settings):
        case = "both" if self.data.shared or self.data.lower_case == "both" else "source"
        return super().encoder_overrides(settings | {"lower_case": case if settings["lower_case"] else "none"})


# --- labels for texts

LABEL_LENGTHS = {"caption": 200, "space": 200, "word": 200, "subword": 300, "character": 800, "byte": 1000}
Unit = Literal["caption", "space", "word", "subword", "character", "byte"]


class LabelDataConfig(TextDataConfig):
    """Which texts and labels, and how they are read."""

    names: dict[str, str] = Field({}, description="names for the labels of the data, such as { 0 = 'bad', 1 = 'good' }")
    unit: Unit = Field("word", description="what a token is")
    lower_case: bool = Field(False, description="put texts into lower case")
    vocabulary_size: int = Field(20_000, ge=5, description="most tokens of the vocabulary")
    max_length: int = Field(0, ge=0, le=5000, description="most tokens of a text; 0 is a default of the unit")
    buckets: int = Field(4, ge=1, le=20, description="groups of similar length that batches are made of")

    def length(self):
        """Most tokens of a text."""
        return self.max_length or LABEL_LENGTHS[self.unit]


class LabelEncoderConfig(Config):
    """The encoder of the texts."""

    cell: Cell = Field("lstm", description="recurrent cell")
    units: int = Field(64, ge=1, description="size of the state in each direction")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers")
    bidirectional: bool = Field(True, description="read in both directions")
    residual: bool = Field(False, description="add the input of a layer to its output, from the second layer on")
    embedding_size: int = Field(64, ge=1, description="size of the vector of a token")
    embedding_range: float = Field(0.05, gt=0, description="token vectors are initialized uniformly in [-x, x]")
    vectors: str = Field("", description="text file of GloVe or word2vec, for the words that it has")
    vector_words: int = Field(
        0, ge=0, description="add the first words of `vectors`, this many, to the vocabulary of the training texts"
    )
    train_vectors: bool = Field(True, description="false keeps all token vectors as they are initialized")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="of the numbers of the token vectors")
    word_dropout: float = Field(0.0, ge=0, lt=1, description="share of the tokens whose whole vector is dropped")
    recurrent_dropout: float = Field(0.0, ge=0, lt=1, description="of the state, from step to step")
    dropout: float = Field(0.0, ge=0, lt=1, description="between layers, and before the label")
    encoder: StartConfig = StartConfig()

    @model_validator(mode="after")
    def _one_start(self):
        if self.vectors and self.encoder.start:
            raise ValueError(f"vectors are for new words; the encoder of {self.encoder.start} brings its own")
        if self.vector_words and not self.vectors:
            raise ValueError(f"vector_words = {self.vector_words} takes words of `vectors`, which is not set")
        return self


class PoolingModelConfig(LabelEncoderConfig):
    """The encoder of the texts, and how all that it has read becomes one vector."""

    pooling: Literal["attention", "mean", "max", "last"] = Field("attention", description="of the encoded tokens")
    attention_units: int = Field(64, ge=1, description="size of the attention")


class LabelConfig(EncoderSourceConfig):
    """One experiment that gives labels to texts.

    `kseq_only_keys` are those of the encoders of kseq, which a pretrained one has no use for.
    """

    encoder_keys: ClassVar = {
        "unit": "data.unit",
        "lower_case": "data.lower_case",
        "normalize": "data.normalize",
        "vocabulary_size": "data.vocabulary_size",
        "cell": "model.cell",
        "units": "model.units",
        "layers": "model.layers",
        "bidirectional": "model.bidirectional",
        "residual": "model.residual",
        "embedding_size": "model.embedding_size",
    }
    kseq_only_keys: ClassVar = (
        *encoder_keys.values(),
        "model.train_vectors",
        "model.embedding_dropout",
        "model.word_dropout",
        "model.recurrent_dropout",
    )

    @model_validator(mode="after")
    def _words_have_vectors(self):
        if self.model.vector_words and self.data.unit not in ("caption", "space", "word"):
            raise ValueError(f"model.vector_words needs data.unit = word, space or caption, it is {self.data.unit}")
        return self

    def unused_keys(self):
        encoder = self.model.encoder
        # What is taken over from another run may be given too: it is compared.
        taken = self.encoder_keys.values() if encoder.from_ else ()
        only = [key for key in self.kseq_only_keys if key not in taken] if encoder.preset else ()
        return (*only, "data.min_count", "model.embedding_range")


class OneLabelConfig(LabelConfig):
    """The same for tasks whose encoder may be a pretrained one."""

    encoder_keys: ClassVar = LabelConfig.encoder_keys | {"pretrained": "model.encoder.pretrained"}

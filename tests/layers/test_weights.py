"""Initializers, regularizers, constraints and biases of attention, decoders and bridges are those that were given."""

import keras
import numpy as np
import pytest

from contracts import CONTRACTS, normal, randomise
from kseq.layers import (
    ATTENTIONS,
    DECODERS,
    BahdanauAttention,
    DenseBridge,
    GRUCell,
    MutualAttention,
    PointerGenerator,
    PoolingAttention,
    WordByWordAttention,
    attention_options,
    make_attention,
)

SIZE = 4

LAYERS = {  # name: (what makes it of options, the row of the contract table with its inputs)
    **{
        name: (lambda name=name, **options: make_attention(name, 3, **options), "BahdanauAttention")
        for name in ATTENTIONS
        if name != "dot"
    },
    "pooling": (lambda **options: PoolingAttention(3, **options), "PoolingAttention"),
    "word_by_word": (lambda **options: WordByWordAttention(3, **options), "WordByWordAttention"),
    "mutual": (lambda **options: MutualAttention(3, **options), "MutualAttention"),
    "dense_bridge": (lambda **options: DenseBridge([2, 3], **options), "DenseBridge"),
    "pointer": (lambda **options: PointerGenerator(2, **options), "PointerGenerator"),
    "bahdanau_decoder": (
        lambda **options: DECODERS["bahdanau"](GRUCell(SIZE), "dot", gate=True, deep_output=True, **options),
        "dot",
    ),
    "luong_decoder": (lambda **options: DECODERS["luong"](GRUCell(SIZE), "dot", **options), "dot"),
    "fixed_decoder": (lambda **options: DECODERS["fixed"](GRUCell(SIZE), **options), "dot"),
}
BIASED = ("normalized", "location", "coverage", "monotonic", "pooling", "mutual", "dense_bridge", "pointer")
BIASED += ("bahdanau_decoder",)
SCALARS = {"gain", "offset", "baseline"}  # their first values are the papers'

every_layer = pytest.mark.parametrize("name", LAYERS)


def built(name, **options):
    """The layer after a call, its weights without those of its parts, and the outputs."""
    make, row = LAYERS[name]
    inputs = {"inputs": normal(2, 3, 2), "memory": normal(2, 5, SIZE)} if row == "dot" else CONTRACTS[row].inputs(2, 3)
    layer = make(**options)
    layer(**inputs)
    own = [x for x in layer.weights if "cell" not in x.path and x.name not in SCALARS and "seed" not in x.path]
    return layer, {x.name: x for x in own}, inputs


@every_layer
def test_the_options_of_the_kernels_are_applied(name):
    constraint = keras.constraints.NonNeg()
    options = {"kernel_initializer": keras.initializers.Constant(0.5), "kernel_constraint": constraint}
    _, weights, _ = built(name, kernel_regularizer="l2", **options)
    kernels = {key: x for key, x in weights.items() if "bias" not in key}
    assert kernels
    for key, x in kernels.items():
        assert isinstance(x.regularizer, keras.regularizers.L2) and x.constraint is constraint, key
        if key not in ("scale", "query", "recurrent_kernel"):  # these have an initializer of their own
            np.testing.assert_array_equal(x, np.full(x.shape, 0.5))


@pytest.mark.parametrize("name", BIASED)
def test_the_options_of_the_biases_are_applied(name):
    constraint = keras.constraints.MaxNorm(3)
    options = {"bias_initializer": keras.initializers.Constant(0.5), "bias_constraint": constraint}
    _, weights, _ = built(name, bias_regularizer="l1", **options)
    biases = [x for key, x in weights.items() if "bias" in key]
    assert biases
    for x in biases:
        assert isinstance(x.regularizer, keras.regularizers.L1) and x.constraint is constraint
        np.testing.assert_array_equal(x, np.full(x.shape, 0.5))


@pytest.mark.parametrize("name", BIASED)
def test_without_biases_it_is_as_with_zeros(name):
    plain, weights, inputs = built(name, use_bias=False)
    assert not any("bias" in key for key in weights)
    biased, weights, _ = built(name)
    biases = [id(x) for key, x in weights.items() if "bias" in key]
    others = [x for x in biased.weights if id(x) not in biases]
    for x, y in zip(others, randomise(plain).weights, strict=True):
        x.assign(y)
    for x, y in zip(keras.tree.flatten(plain(**inputs)), keras.tree.flatten(biased(**inputs)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "option", "weight"),
    [
        ("bahdanau", "scale_initializer", "scale"),
        ("monotonic", "scale_initializer", "scale"),
        ("word_by_word", "scale_initializer", "scale"),
        ("word_by_word", "recurrent_initializer", "recurrent_kernel"),
        ("pooling", "query_initializer", "query"),
    ],
)
def test_what_is_no_matrix_of_the_inputs_has_an_initializer_of_its_own(name, option, weight):
    """So that an orthogonal kernel_initializer, which a vector cannot have, can be given."""
    _, weights, _ = built(name, kernel_initializer="orthogonal", **{option: keras.initializers.Constant(0.25)})
    np.testing.assert_array_equal(weights[weight], np.full(weights[weight].shape, 0.25))


def test_one_initializer_draws_each_kernel_anew():
    layer = BahdanauAttention(3, kernel_initializer=keras.initializers.RandomNormal())
    layer.build((None, SIZE), (None, None, SIZE))
    assert not np.array_equal(layer.query_kernel, layer.memory_kernel)


def test_the_first_weights_of_a_seed_do_not_depend_on_when_a_layer_is_made():
    """Seeds are drawn as weights are made: what is recorded of a run is reached again."""
    found = []
    for make in (
        lambda: [BahdanauAttention(3), PoolingAttention(3)],
        lambda: [PoolingAttention(3), BahdanauAttention(3)],
    ):
        layers = sorted(make(), key=lambda layer: type(layer).__name__)
        keras.utils.set_random_seed(3)
        layers[0].build((None, SIZE), (None, None, SIZE))
        layers[1].build((None, None, SIZE))
        found.append([np.asarray(x) for layer in layers for x in layer.weights])
    for x, y in zip(*found, strict=True):
        np.testing.assert_array_equal(x, y)


@every_layer
def test_options_survive_the_config(name):
    options = {"kernel_initializer": "he_normal", "kernel_regularizer": "l2", "kernel_constraint": "non_neg"}
    options |= {"bias_initializer": "ones", "use_bias": True} if name in BIASED else {}
    layer = LAYERS[name][0](**options)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.kernel_initializer, keras.initializers.HeNormal)
    assert isinstance(again.kernel_constraint, keras.constraints.NonNeg)
    if name in BIASED:
        assert isinstance(again.bias_initializer, keras.initializers.Ones)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_mechanism_is_made_by_its_name_and_its_options_are_known(name):
    """Oracle: its config, which has every argument."""
    options = attention_options(name)
    layer = make_attention(name, 5, dtype="mixed_bfloat16", **options)
    config = layer.get_config()
    assert set(config) == set(options) | {"name", "trainable", "dtype"} | (
        {"units"} if hasattr(layer, "units") else set()
    )
    assert type(layer) is ATTENTIONS[name] and getattr(layer, "units", 5) == 5
    assert layer.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_attention("bahdanua", 3),
            r"^attention must be one of bahdanau, .*hard, got 'bahdanua'; did you mean ",
        ),
        (lambda: attention_options(None), r"^attention must be one of bahdanau, .*hard, got None$"),
        (
            lambda: make_attention("dot", 3, window=2),
            "^attention 'dot' has no option 'window'; its options are scaled$",
        ),
        (lambda: make_attention("local", 3, window=0), "^window must be a positive whole number, got 0$"),
        (
            lambda: ATTENTIONS["luong"](8),
            "^LuongAttention takes no units, its size is that of query and memory; got 8$",
        ),
        (lambda: ATTENTIONS["dot"](8), "^DotAttention takes no units, its size is that of query and memory; got 8$"),
        (
            lambda: ATTENTIONS["luong_monotonic"](8),
            "^LuongMonotonicAttention takes no units, its size is that of query and memory; got 8$",
        ),
    ],
)
def test_a_wrong_name_option_or_size_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""What every public layer promises, checked over the table in `contracts`."""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import CONTRACTS, UNITS, dtype_policy, flat_inputs, functional_model, normal, public_layers, randomise
from kseq.layers import CELLS, Recurrent

every_layer = pytest.mark.parametrize("name", CONTRACTS)


def flat(nest):
    return [np.asarray(x) for x in tf.nest.flatten(nest)]


def assert_close(got, want, **tolerance):
    """Equal structures of close arrays."""
    got, want = flat(got), flat(want)
    assert len(got) == len(want) > 0
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, **({"rtol": 1e-5, "atol": 1e-5} | tolerance))


def outputs_and_gradients(model, inputs, training=False):
    """The outputs of the model, and the gradients of the sum of their squares for every weight."""
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=training)
        loss = sum(tf.reduce_sum(tf.square(y)) for y in tf.nest.flatten(outputs) if y.dtype.is_floating)
    return outputs, [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables)]


def test_the_table_has_every_public_layer():
    layers = public_layers()
    assert len(layers) > 10
    assert {type(contract.make()) for contract in CONTRACTS.values()} == set(layers)


@every_layer
def test_config_round_trip(name):
    layer = CONTRACTS[name].make()
    config = json.dumps(layer.get_config())
    arguments = inspect.signature(type(layer).__init__).parameters.values()
    names = {x.name for x in arguments if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)}
    assert names - {"self"} <= set(json.loads(config))
    again = type(layer).from_config(json.loads(config))
    assert json.dumps(again.get_config()) == config


@pytest.mark.slow
@every_layer
def test_keras_file_round_trip(name, tmp_path):
    model, inputs = functional_model(name), flat_inputs(name, 2, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again(inputs), model(inputs))


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_runs_and_is_saved_in_keras_loop_and_in_ours(name, tmp_path):
    x = keras.Input((None, 3))
    ours, theirs = Recurrent(CELLS[name](UNITS)), keras.layers.RNN(CELLS[name](UNITS), return_sequences=True)
    model = keras.Model(x, [ours(x), theirs(x)])
    theirs.set_weights(randomise(ours).get_weights())
    model.save(tmp_path / "model.keras")
    inputs = normal(2, 4, 3)
    for one in (model, keras.saving.load_model(tmp_path / "model.keras")):
        outputs = one(inputs)
        assert_close(outputs[0], outputs[1])
    assert_close(outputs, model(inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONTRACTS if "Seq2Seq" not in name])  # see tests/models
def test_eager_graph_and_xla_agree_and_every_weight_gets_a_gradient(name):
    model, inputs = functional_model(name), flat_inputs(name, 3, 3)
    eager = outputs_and_gradients(model, inputs)
    for weight, gradient in zip(model.trainable_variables, eager[1], strict=True):
        assert np.any(gradient), weight.path
    for compiled in (False, True):
        function = tf.function(
            lambda inputs: outputs_and_gradients(model, inputs), jit_compile=compiled, autograph=False
        )
        assert_close(function(inputs), eager, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [x for x in CONTRACTS if x not in ("Seq2Seq", "Seq2Seq-ctc")])  # see tests/models
def test_training_draws_what_the_seed_says_or_changes_nothing(name):
    """And every weight gets a gradient."""
    draws, inputs = CONTRACTS[name].draws, flat_inputs(name, 3, 3)

    def fresh():
        keras.utils.set_random_seed(1)
        return functional_model.__wrapped__(name)

    model = fresh() if draws else functional_model(name)
    eager = outputs_and_gradients(model, inputs, training=True)
    for weight, gradient in zip(model.trainable_variables, eager[1], strict=True):
        assert np.any(gradient), weight.path
    if not draws:
        assert_close(eager, outputs_and_gradients(model, inputs))
        return
    assert not np.allclose(flat(eager)[0], flat(model(inputs))[0])
    assert_close(outputs_and_gradients(fresh(), inputs, training=True), eager, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [x for x in CONTRACTS if CONTRACTS[x].draws and x != "Seq2Seq"])
def test_what_draws_in_training_does_so_in_a_graph(name):
    """Layers under XLA as well; models are trained under XLA in tests/tasks."""
    model, inputs = functional_model(name), flat_inputs(name, 3, 3)
    plain = flat(model(inputs))
    is_model = isinstance(CONTRACTS[name].make(), keras.Model)
    for compiled in (False,) if is_model else (False, True):
        function = tf.function(
            lambda: outputs_and_gradients(model, inputs, training=True), jit_compile=compiled, autograph=False
        )
        drawn = flat(function())
        assert all(np.all(np.isfinite(x)) for x in drawn)
        assert not np.allclose(drawn[0], plain[0])


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize(("policy", "atol"), [("mixed_float16", 0.01), ("mixed_bfloat16", 0.08)])
def test_mixed_precision(name, policy, atol):
    contract, inputs = CONTRACTS[name], CONTRACTS[name].inputs(3, 3)
    with dtype_policy(policy):
        layer = contract.make()
        layer(**inputs)
        layer.set_weights(functional_model(name).get_weights())
        outputs = layer(**inputs)
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    expected = {"float32" if contract.float32_output else policy.removeprefix("mixed_")}
    if name.partition("-")[0].endswith(("Attention", "Decoder")):
        expected.add("float32")  # the alignment
    assert {y.dtype.name for y in tf.nest.flatten(outputs)} - {"bool"} == expected
    assert_close(
        [tf.cast(y, "float32") for y in tf.nest.flatten(outputs)],
        functional_model(name)(flat_inputs(name, 3, 3)),
        atol=atol,
    )


@pytest.mark.slow
@every_layer
def test_saved_model_of_unknown_batch_and_time(name, tmp_path):
    model = functional_model(name)
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    for batch, time in ((1, 5), (4, 2)):
        inputs = flat_inputs(name, batch, time)
        assert_close(served.serve(inputs), model(inputs))

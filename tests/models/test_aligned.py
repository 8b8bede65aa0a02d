"""An aligned encoder-decoder: its input against NumPy, its steps against the whole, and what a sampler makes of it."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import dtype_policy, randomise, tiny_aligned
from kseq.samplers import Beam, Constraints, Greedy, Parallel, ensemble
from kseq.samplers.hypotheses import NEVER

WORDS, START, END = 11, 1, 2
SOURCE = np.array([[4, 5, 6, 7], [8, 3, 0, 0], [9, 4, 4, 0]], "int32")
# The first row goes on behind the last row of the memory.
TOKENS = np.array([[1, 5, 6, 7, 9, 4], [1, 8, 10, 0, 0, 0], [1, 9, 0, 0, 0, 0]], "int32")
INPUTS = {"source": SOURCE, "tokens": TOKENS}
every_decoder = pytest.mark.parametrize("decoder", ["bahdanau", "luong", "fixed"])


def made(decoder="bahdanau", **options):
    model = tiny_aligned(decoder, **options)
    model(INPUTS)
    return randomise(model)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@every_decoder
def test_the_decoder_reads_the_row_at_its_place_beside_the_token(decoder):
    """Oracle: a loop in NumPy that puts row t of the memory behind token t, zeros where there is none."""
    model = made(decoder)
    encoded = model.encoder(SOURCE)
    embedded, memory = np.asarray(model.embedding(TOKENS)), np.asarray(encoded.memory)
    inputs = np.zeros((*TOKENS.shape, embedded.shape[-1] + memory.shape[-1]), "float32")
    for b, t in np.ndindex(*TOKENS.shape):
        own = memory[b, t] if t < np.count_nonzero(SOURCE[b]) else np.zeros(memory.shape[-1])
        inputs[b, t] = [*embedded[b, t], *own]
    outputs, _ = model.decoder(inputs, encoded.memory, encoded.memory_mask, model.bridge(encoded.state))
    np.testing.assert_allclose(model(INPUTS), model.words(outputs), atol=1e-5)


@every_decoder
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_step_by_step_equals_the_whole(decoder, policy):
    with dtype_policy(policy):
        model = made(decoder)
    states, memory = model.encode(SOURCE)
    steps = []
    for t in range(TOKENS.shape[1]):
        logits, states, _ = model.step(tf.constant(TOKENS[:, t]), states, memory)
        steps.append(logits)
    np.testing.assert_allclose(np.stack(steps, axis=1), model(INPUTS), atol=1e-5 if policy == "float32" else 0.02)
    assert states[-1].numpy().tolist() == [TOKENS.shape[1]] * 3


def test_the_place_matters_and_a_model_that_is_not_aligned_knows_none():
    """The only difference is a row of the memory: all else that the last step sees of both sources is the same."""
    aligned, plain = made("fixed"), made("fixed", aligned=False)
    for model, differs in ((aligned, True), (plain, False)):
        states, memory = model.encode(SOURCE[:1])
        rows = tf.reverse(memory.values, axis=[1])
        other = type(memory)(rows, memory.keys, memory.mask)
        results = [model.step(tf.constant([1]), states, read)[0] for read in (memory, other)]
        assert bool(np.any(np.abs(results[0] - results[1]) > 1e-4)) == differs


@pytest.mark.slow
@every_decoder
@pytest.mark.parametrize("sampler", [Greedy(), Beam(4, n_best=2)], ids=["greedy", "beam"])
def test_the_score_of_a_sampler_is_the_teacher_forced_log_probability(decoder, sampler):
    """Of the tokens that may stand there: those that are not forbidden, and the end behind the line alone."""
    model, forbidden = made(decoder), [0, START, 3]
    constraints = Constraints(forbidden=forbidden, parallel=Parallel())
    found = model.generate(SOURCE, sampler, max_length=6, constraints=constraints)
    for row, k in np.ndindex(*found.lengths.shape):
        length = np.count_nonzero(SOURCE[row])
        ids = found.ids[row, k].numpy()[: length + 1]
        assert found.lengths[row, k] == length + 1 and ids[-1] == END
        tokens = np.array([[START, *ids[:-1]]])
        logits = np.array(model({"source": SOURCE[row : row + 1], "tokens": tokens}))[0, :length].astype("float64")
        logits[:, [*forbidden, END]] = NEVER
        want = log_softmax(logits)[np.arange(length), ids[:length]].sum()
        np.testing.assert_allclose(found.log_probs[row, k], want, rtol=1e-4)


@pytest.mark.slow
def test_an_ensemble_of_aligned_models_says_what_its_mean_says():
    """Oracle: the mean of the log-probabilities of both, teacher-forced."""
    models = [made("bahdanau"), made("luong")]
    encoded = [model.encode(SOURCE) for model in models]
    step = ensemble([model.step for model in models], [len(states) for states, _ in encoded])
    states, memory = [x for states, _ in encoded for x in states], [memory for _, memory in encoded]
    found = Greedy()(step, states, memory, start=START, end=END, max_length=5)
    for row in range(len(SOURCE)):
        ids = found.ids[row, 0].numpy()[: int(found.lengths[row, 0])]
        inputs = {"source": SOURCE[row : row + 1], "tokens": np.array([[START, *ids[:-1]]])}
        mean = np.mean([log_softmax(np.array(model(inputs))[0].astype("float64")) for model in models], axis=0)
        np.testing.assert_array_equal(mean.argmax(-1), ids)


@pytest.mark.slow
def test_it_is_saved_and_exported(tmp_path):
    model = made()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.aligned and json.dumps(again.get_config()) == json.dumps(model.get_config())
    np.testing.assert_allclose(again(INPUTS), model(INPUTS), atol=1e-6)


@pytest.mark.slow
def test_scheduled_sampling_is_refused():
    inputs = INPUTS | {"sampling": np.full(3, 0.5, "float32")}
    with pytest.raises(ValueError, match=r'"sampling" is not for an aligned model, whose steps read more than a token'):
        made()(inputs, training=True)
    made()(inputs)  # it is for training alone


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_it_trains_compiled_or_not(compiled):
    from kseq.losses import TokenCrossentropy

    model = made()
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.5), TokenCrossentropy(), jit_compile=compiled)
    history = model.fit(INPUTS, np.where(TOKENS == 1, 4, TOKENS), batch_size=3, verbose=0)
    assert np.isfinite(history.history["loss"][0]) and all(map(np.any, map(np.subtract, before, model.get_weights())))
    assert model.words.kernel.shape[1] == WORDS

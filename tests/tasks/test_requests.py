"""Which requests are refused, and batches of any size: the functions alone, and tasks without a model."""

import io

import numpy as np
import pytest
import scipy.io.wavfile
import tensorflow as tf

from kseq.config import ConfigError, load
from kseq.tasks import requests
from kseq.tasks.caption import Caption
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail
from kseq.tasks.transcribe import Transcribe
from kseq.tasks.translate import Translate


def status_of(texts, most):
    return [
        x.decode()
        for x in tf.function(requests.text_status, autograph=False)(tf.constant(texts, tf.string), most).numpy()
    ]


@pytest.mark.parametrize("text", ["", "a", "ab cd", "é" * 5, "🎵" * 5, "הכוכב", "a\0b c"])
def test_a_text_of_five_characters_is_read_and_one_of_six_is_not(text):
    """Oracle: Python's len."""
    long = "x" * (6 - len(text)) + text
    assert len(long) == 6
    assert status_of([text, long], 5) == ["ok", "The text has 6 characters, and at most 5 are read"]


def test_bytes_that_are_no_characters_count_too():
    """Of 40 half characters none begins one, so that UTF-8 has 0 there; 40 bytes are 10 characters at least."""
    assert status_of([b"\x80" * 40, b"\xff" * 9], 9) == ["The text has 10 characters, and at most 9 are read", "ok"]
    assert status_of([b"\xff" * 11], 9) == ["The text has 11 characters, and at most 9 are read"]


def test_the_first_status_that_is_not_ok_is_told():
    found = requests.first_status(*(tf.constant(x) for x in (["ok", "ok", "a"], ["ok", "b", "c"], ["ok", "d", "ok"])))
    assert found.numpy().tolist() == [b"ok", b"b", b"a"]


def test_what_is_refused_is_empty_and_zero():
    status = tf.constant(["ok", "too long"])
    found = {"text": tf.constant(["a", "b"]), "score": tf.constant([1.5, 2.5]), "ids": tf.ones([2, 3, 1], tf.int32)}
    kept = {name: x.numpy().tolist() for name, x in requests.without_refused(found, status).items()}
    want = {"text": [b"a", b""], "score": [1.5, 0], "ids": [[[1]] * 3, [[0]] * 3], "status": [b"ok", b"too long"]}
    assert kept == want


def padded(texts):
    """Characters of each text, as wide as the longest of the batch; an example of what differs between parts."""
    tokens = tf.strings.bytes_split(texts).to_tensor()
    lengths = tf.strings.length(texts)
    table = tf.cast(tf.sequence_mask(lengths), tf.float32)[:, None] * tf.ones([1, 2, 1])
    return {"text": texts, "score": tf.cast(lengths, tf.float32), "tokens": tokens, "table": table}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_parts_make_the_answer_of_the_whole(count, graph):
    """Oracle: the same function on all at once."""
    texts = tf.constant(["ab", "", "abcde", "x", "abcdefghi", "yz", "a"][:count], tf.string)
    answer = requests.in_parts(padded, ("text",), 3)
    answer = (
        tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False) if graph else answer
    )
    found, want = answer(texts), padded(texts)
    for name, value in want.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_no_more_than_so_many_are_answered_at_once():
    seen = []

    def answer(texts):
        seen.append(tf.numpy_function(lambda n: sizes.append(int(n)) or n, [tf.size(texts)], tf.int32))
        with tf.control_dependencies(seen[-1:]):
            return {"text": tf.identity(texts)}

    sizes = []
    requests.in_parts(answer, ("text",), 3)(tf.constant(["a"] * 8))
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize("most", [1.0, 6.0, 9.0, 100.0])
def test_a_part_has_as_many_as_cost_no_more_than_is_given(most):
    """Oracle: the parts made one example at a time. Each costs as much as the longest of its part."""
    texts = ["ab", "", "abcde", "x", "abc", "abcdefghi", "yz", "a", "b", "c", "d", "e"]
    wanted = [[]]
    for text in texts:
        together = [*wanted[-1], text]
        fits = len(together) <= 4 and len(together) * max(map(len, together)) <= most
        wanted = [*wanted[:-1], together] if fits or not wanted[-1] else [*wanted, [text]]
    seen = []

    def answer(texts):
        told = tf.numpy_function(lambda x: seen.append([t.decode() for t in x]) or np.int32(0), [texts], tf.int32)
        with tf.control_dependencies([told]):
            return {"text": tf.identity(texts)}

    def cost(texts):
        return tf.cast(tf.strings.length(texts), tf.float32)

    found = requests.in_parts(answer, ("text",), 4, cost, most)(tf.constant(texts))
    assert seen == wanted
    assert [text.decode() for text in found["text"].numpy()] == texts


@pytest.mark.parametrize("graph", [False, True])
def test_inputs_of_unequal_number_are_named(graph):
    answer = requests.in_parts(lambda one, other: {"text": one + other}, ("premise", "hypothesis"), 2)
    answer = tf.function(answer, autograph=False) if graph else answer
    assert answer(tf.constant(["a", "b"]), tf.constant(["c", "d"]))["text"].numpy().tolist() == [b"ac", b"bd"]
    for one, other in ((["a", "b"], ["c"]), ([], ["c"])):
        message = rf"(?s)premise and hypothesis must be equally many; there are.*{len(one)}.*{len(other)}"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            answer(tf.constant(one, tf.string), tf.constant(other))


def tone(seconds):
    """A WAV file of 8 kHz."""
    file = io.BytesIO()
    scipy.io.wavfile.write(file, 8000, np.sin(np.arange(int(8000 * seconds))).astype("float32"))
    return file.getvalue()


def test_the_limits_are_those_of_the_config(tmp_path):
    run = Classify(load(Classify.Config, overrides=["serving.max_characters=4"]), tmp_path)
    statuses = run.status(tf.constant(["abcd", "abcde"])).numpy().tolist()
    assert statuses == [b"ok", b"The text has 5 characters, and at most 4 are read"]
    pair = Entail(load(Entail.Config, overrides=["serving.max_characters=4"]), tmp_path)
    found = pair.status(tf.constant(["abcde", "a", "a"]), tf.constant(["a", "abcdef", "a"])).numpy()
    assert [x[:15] for x in found] == [b"The text has 5 ", b"The text has 6 ", b"ok"]
    limits = Transcribe(load(Transcribe.Config, overrides=["serving.batch_seconds=7"]), tmp_path).part_limits()
    assert (limits["size"], limits["most"]) == (64, 7)
    assert limits["cost"](tf.constant([tone(2), b"", tone(0.5)])).numpy().tolist() == [2, 0, 0.5]


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (Classify, "serving.max_characters=0", "serving.max_characters = 0 .*must be at least 1"),
        (Classify, "serving.n_best=3", r"serving.n_best = 3 \(--set\): unknown key"),
        (Translate, "serving.n_best=-1", "must be at least 0 and at most 100"),
        (Translate, "serving.batch_size=0", "must be at least 1"),
        (Caption, "serving.max_pixels=99999999999", "must be at least 1 and at most 67108864"),
        (Caption, "serving.max_characters=9", "unknown key"),
        (Transcribe, "serving.max_seconds=4000", "must be at least 0 and at most 3600"),
        (Transcribe, "serving.batch_seconds=0", "must be greater than 0"),
    ],
)
def test_a_wrong_limit_is_told(task, change, message):
    with pytest.raises(ConfigError, match=message):
        load(task.Config, overrides=[change])

"""Tests of parts of words, against the text that went in and against SentencePiece's own Python."""

import base64
import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import tensorflow as tf

import real
from kseq import export
from kseq.data import read
from kseq.errors import UserError
from kseq.preprocessors import SPECIAL, UNITS, UNKNOWN, SubwordTokenizer, TextPreprocessor
from kseq.serving import ask

installed = pytest.mark.skipif(
    not all(map(find_spec, ("tensorflow_text", "sentencepiece"))),
    reason="needs the extra kseq[subword]",
)
ANIMALS, SIZES = ("dog", "cat", "horse", "bird"), ("big", "small", "tiny")
TEXTS = [f"the {size} {animal}'s house, number {i}." for i, size in enumerate(SIZES) for animal in ANIMALS] * 5


def adapted(texts=TEXTS, *, max_length=50, size=330, algorithm="unigram", **options):
    text = TextPreprocessor(max_length, tokenizer=SubwordTokenizer(algorithm, **options), max_tokens=size)
    text.adapt(texts)
    return text


def model(text):
    """The bytes of SentencePiece's model."""
    return base64.b64decode(text.tokenizer.model)


def written(text, sentences):
    return [t.decode() for t in text.text(text.ids(tf.constant(sentences)).to_tensor()).numpy()]


@installed
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_ids_are_those_of_sentencepiece(algorithm):
    """Oracle: sentencepiece's Python, with the model that was trained."""
    import sentencepiece

    text = adapted(algorithm=algorithm, size=400)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=model(text))
    sentences = ["the big dog", "tiny birdhouse!", "Zoë 犬", "", "<s> <pad>"]
    assert text.ids(tf.constant(sentences)).to_list() == oracle.encode(sentences)
    assert text.vocabulary == [oracle.id_to_piece(i) for i in range(len(oracle))]
    assert tuple(text.vocabulary[:4]) == SPECIAL and len(text.vocabulary) <= 400
    assert any(len(piece) > 2 and piece[0] == "▁" for piece in text.vocabulary[4 + 256 :])


@installed
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "sentence",
    ["the big dog", "don't (l'homme), 1,000.5!", "我爱 NLP。", "<s> <0x41> <unk>", "é e\u0301 👩\u200d💻", "a_b", ""],
)
def test_every_text_comes_back(sentence, algorithm):
    """A character that was never seen is its bytes, so nothing is unknown."""
    text = adapted(algorithm=algorithm)
    assert written(text, [sentence]) == [sentence]
    assert UNKNOWN not in text.ids(tf.constant([sentence])).flat_values.numpy()


@pytest.mark.slow
@installed
@real.needed
@pytest.mark.parametrize("name", ["multi30k", "trec", "chnsenticorp"])
def test_real_texts_come_back_exactly(name):
    source, fields, options = real.SOURCES[name]
    rows = read(source, "train", fields, **options).first(2000)
    texts = [re.sub(r"\s+", " ", row[role]).strip() for _, row in rows for role in fields if role != "label"]
    assert written(adapted(texts, size=3000, max_length=10_000), texts) == texts


@installed
@pytest.mark.parametrize("data, text", [(b"a\xff dog", "a\ufffd dog"), (b"a\x00dog", "a\ufffddog"), (b" \n", "")])
def test_bad_bytes_become_the_sign_for_them(data, text):
    assert written(adapted(), [data]) == [text]


@installed
def test_long_texts_are_cut():
    text = adapted(max_length=7)
    assert len(text.ids(tf.constant(["the dog " * 10_000]))[0]) == 7


@installed
def test_bytes_that_make_no_character_become_the_sign_for_them():
    text = adapted()
    tokens = tf.constant([["▁a", "<0xE3>", "<0x80>", "▁", "<0xC3>", "<0xA9>"]])
    assert text.tokenizer.join(tokens).numpy()[0].decode() == "a\ufffd é"


@installed
def test_options_are_used_before_pieces_are_learned():
    text = adapted(["THE ﬁsh"] * 50, size=280, lower_case=True, normalize="nfkc")
    assert not [piece for piece in text.vocabulary[4 + 256 :] if piece != piece.lower() or "ﬁ" in piece]
    assert written(text, ["The ﬁsh"]) == ["the fish"]


@installed
def test_the_same_texts_give_the_same_pieces():
    assert adapted().tokenizer.model == adapted(iter(TEXTS)).tokenizer.model


@installed
def test_a_saved_vocabulary_is_loaded_as_it_was(tmp_path):
    text = adapted()
    text.save(tmp_path / "vocabulary.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"vocabulary.txt", "vocabulary.json", "vocabulary.model"}
    assert (tmp_path / "vocabulary.txt").read_text("utf-8").split("\n") == [*text.vocabulary, ""]
    assert (tmp_path / "vocabulary.model").read_bytes() == model(text)
    for loaded in (TextPreprocessor.load(tmp_path / "vocabulary.txt"), text.with_max_length(50)):
        assert loaded.ids(tf.constant(TEXTS)).to_list() == text.ids(tf.constant(TEXTS)).to_list()
        assert loaded.fingerprint() == text.fingerprint()
    assert adapted(algorithm="bpe").fingerprint() != text.fingerprint()


@installed
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_bytes(b"a\xffb" * 100), "the model is not one of SentencePiece"),
        (lambda path: path.write_bytes(b""), "the model is not one of SentencePiece"),
        (
            lambda path: path.write_bytes(model(adapted(["other words"] * 9, size=280))),
            "the model has other pieces than the vocabulary; the two are of different runs",
        ),
    ],
    ids=["absent", "broken", "empty", "other"],
)
def test_a_model_that_does_not_belong_to_the_vocabulary_is_named(tmp_path, change, message):
    adapted().save(tmp_path / "vocabulary.txt")
    change(tmp_path / "vocabulary.model")
    with pytest.raises(UserError, match=f"vocabulary {re.escape(str(tmp_path))}/vocabulary.txt: .*{message}"):
        TextPreprocessor.load(tmp_path / "vocabulary.txt")


@installed
@pytest.mark.parametrize(
    "texts, size, message",
    [
        ([], 300, "there are no texts"),
        (TEXTS, 50, "Vocabulary size is smaller than required_chars. 50 vs "),
    ],
)
def test_pieces_that_cannot_be_learned_say_why(texts, size, message):
    with pytest.raises(UserError, match=f"^pieces of words cannot be learned: {message}"):
        adapted(texts, size=size)


@pytest.mark.slow
@installed
def test_an_exported_model_reads_and_writes_pieces_without_kseq_and_keras(tmp_path):
    text = adapted(lower_case=True, normalize="nfkc")

    def answer(source):
        ids = text.ids(source).to_tensor()
        return {"text": text.text(ids), "score": tf.cast(tf.shape(ids)[1:], tf.float32)}

    export.export(answer, [text], ["source"], tmp_path / "export")
    source = "The ﬁrst dog’s 犬"
    expected = {"text": ["the first dog’s 犬"], "score": [float(len(text.ids([source])[0]))]}
    command = [sys.executable, ask.__file__, tmp_path / "export", f"source={source}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(result.stdout) == expected


@installed
def test_the_algorithm_is_one_of_two():
    with pytest.raises(UserError, match=r"^pieces of words are learned by unigram or bpe, not 'wordpiece'$"):
        SubwordTokenizer("wordpiece")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(UserError, match=r"^unit = subword needs more than TensorFlow: pip install 'kseq\[subword\]'$"):
        UNITS["subword"]()


@installed
def test_without_sentencepiece_nothing_is_learned(monkeypatch):
    tokenizer = SubwordTokenizer()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"^unit = subword learns by sentencepiece: pip install 'kseq\[subword\]'$"):
        tokenizer.learn(TEXTS, 300, 1)

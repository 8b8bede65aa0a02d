"""Tests of text to words and back, against tables written by hand."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from kseq.errors import UserError
from kseq.preprocessors import (
    END,
    PADDING,
    SPECIAL,
    START,
    UNITS,
    UNKNOWN,
    CaptionTokenizer,
    SpaceTokenizer,
    TextPreprocessor,
    WordTokenizer,
    tokenize,
)

DOGS = ["a dog and a cat", "A dog!", "the bird"]


def adapted(texts=DOGS, *, max_length=20, size=100, min_count=1):
    text = TextPreprocessor(max_length, max_tokens=size, min_count=min_count)
    text.adapt(texts)
    return text


def test_a_tokenizer_may_learn_in_its_own_way():
    """Without an argument for counts that other processes make, which not every way of learning has a use for."""

    class Numbers(SpaceTokenizer):
        def learn(self, texts, size, min_count):
            return [str(i) for i in range(10)]

    text = TextPreprocessor(5, tokenizer=Numbers())
    text.adapt(["1 2"])
    assert text.vocabulary[4:] == [str(i) for i in range(10)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("A Dog, RUNS!", "a dog runs"),
        ("ÉCLAIR Ünder Straße ΣΟΦΌΣ", "éclair ünder straße σοφός"),
        ("cafe\u0301", "cafe\u0301"),  # as it is: a letter with its accent apart is another word
        ("don't don’t dogs' it's", "dont dont dogs its"),
        ("don`t", "don t"),
        ("well-known red–blue a/b a_b a@b", "well known red blue a b a b a b"),
        ("2 dogs, 3.5 m, 1,000 $5 50%", "2 dogs 3 5 m 1 000 5 50"),
        ("“quoted” «said» (so)…", "quoted said so"),
        ("<s> </s> <pad> <unk>", "s s pad unk"),
        ("dog 😀 → cat", "dog cat"),
        ("我爱北京。", "我 爱 北 京"),
        ("ラーメンを食べる", "ラ ー メ ン を 食 べ る"),
        ("我爱NLP吗2024年", "我 爱 nlp 吗 2024 年"),
        ("人々、ねーー", "人 々 ね ー ー"),
        ("한국어 글", "한국어 글"),
        ("हिन्दी", "हिन्दी"),
        ("  a \t b\r\nc\n", "a b c"),
        ("a\u00a0b\u3000c\u2003d", "a b c d"),
        ("犬\u3000猫", "犬 猫"),
        ("a\u2028b\u2029c\x85d\x1ce\x0bf", "a b c d e f"),
        ("!!! … — ·", ""),
        (" ", ""),
        ("", ""),
    ],
)
def test_words_of_a_text(text, words):
    assert tokenize([text]) == [words.split()]


def test_texts_are_read_one_by_one():
    assert tokenize(["a b", "", "c"]) == [["a", "b"], [], ["c"]]
    assert tokenize(iter(["a b"])) == [["a", "b"]]
    assert tokenize([]) == []


@pytest.mark.parametrize(
    "data, words",
    [
        (b"a dog\xff\xfe cat", ["a", "dog", "cat"]),
        (b"a \xc3", ["a"]),
        (b"do\xffg", ["do", "g"]),
        (b"\xed\xa0\x80 x", ["x"]),
        (b"a do\x00g cat", ["a", "do"]),
    ],
    ids=["bytes", "cut-off", "in-a-word", "surrogate", "nul"],
)
def test_what_is_no_utf_8_parts_words_and_nul_ends_the_text(data, words):
    """`tf.strings.lower` puts U+FFFD, a symbol, in its place. It reads C strings, so the rest after a NUL is lost."""
    assert tokenize([data]) == [words]


def test_the_vocabulary_goes_by_count_and_then_by_alphabet():
    """Counts: a 3, dog 2, and bird cat the 1."""
    assert adapted().vocabulary == [*SPECIAL, "a", "dog", "and", "bird", "cat", "the"]
    assert adapted(DOGS[::-1]).vocabulary == adapted().vocabulary
    assert SPECIAL == ("<pad>", "<s>", "</s>", "<unk>")
    assert (PADDING, START, END, UNKNOWN) == (0, 1, 2, 3)


@pytest.mark.parametrize("min_count, words", [(2, ["a", "dog"]), (3, ["a"]), (4, [])])
def test_rare_words_are_left_out(min_count, words):
    assert adapted(min_count=min_count).vocabulary == [*SPECIAL, *words]


@pytest.mark.parametrize("size, words", [(4, []), (5, ["a"]), (7, ["a", "dog", "and"]), (10, None), (11, None)])
def test_the_size_counts_the_special_words(size, words):
    expected = adapted().vocabulary if words is None else [*SPECIAL, *words]
    assert adapted(size=size).vocabulary == expected


def test_ids_are_places_in_the_vocabulary_and_unknown_words_have_one_of_their_own():
    text = adapted()
    assert text.ids(tf.constant(["A DOG and a zebra", "", "…", "The bird"])).to_list() == [
        [4, 5, 6, 4, 3],
        [],
        [],
        [9, 7],
    ]
    assert text.targets(["a zebra", ""]).to_list() == [[START, 4, UNKNOWN, END], [START, END]]
    assert text.targets(tf.constant([], tf.string)).to_list() == []


@pytest.mark.parametrize("max_length, ids", [(1, [4]), (2, [4, 5]), (3, [4, 5, 6]), (9, [4, 5, 6])])
def test_a_long_text_is_cut(max_length, ids):
    text = adapted(max_length=max_length)
    assert text.ids(tf.constant(["a dog and"])).to_list() == [ids]


@pytest.mark.parametrize(("max_length", "cut"), [(1, [1, 1, 0, 0]), (2, [1, 0, 0, 0]), (3, [0] * 4), (9, [0] * 4)])
def test_a_target_that_is_cut_has_no_end(max_length, cut):
    """By hand: the texts have 3, 2, 1 and 0 tokens."""
    text, texts = adapted(max_length=max_length), ["a dog and", "a dog", "a", ""]
    want = [[START, *[4, 5, 6][: min(n, max_length)], *([] if n > max_length else [END])] for n in (3, 2, 1, 0)]
    assert text.targets(texts).to_list() == want
    assert text.truncated(texts).numpy().tolist() == list(map(bool, cut))
    words = text.oov_words(texts, 2)
    assert text.targets(texts, words).to_list() == want


OOV_TEXTS = ["A zebra, a gnu: the ZEBRA!", "a dog", "", "gnu yak cat yak emu ox"]


def test_oov_words_are_those_without_an_id_each_once_in_their_order():
    """By hand; what is more than `max_oov_words` is left out."""
    text = adapted()
    own = text.oov_words(OOV_TEXTS, 3)
    assert own.shape == (4, 3)
    want = [[b"zebra", b"gnu", b""], [b"", b"", b""], [b"", b"", b""], [b"gnu", b"yak", b"emu"]]
    assert own.numpy().tolist() == want
    assert text.oov_words(OOV_TEXTS, 1).numpy().tolist() == [row[:1] for row in want]
    assert text.oov_words(OOV_TEXTS[1:3], 2).numpy().tolist() == [[b"", b""], [b"", b""]]
    assert adapted(max_length=3).oov_words(OOV_TEXTS, 3).numpy().tolist()[0] == [b"zebra", b"", b""]


def test_oov_words_are_numbered_on_from_the_vocabulary_in_source_and_target():
    """By hand: the vocabulary has 10 words, a 4, dog 5, cat 8, the 9; "ox" had no place, "fox" is not in the source."""
    text = adapted()
    own = text.oov_words(OOV_TEXTS, 3)
    assert text.ids(OOV_TEXTS, own).to_list() == [[4, 10, 4, 11, 9, 10], [4, 5], [], [10, 11, 8, 11, 12, 3]]
    targets = ["the gnu and a fox", "zebra", "a", "emu, ox, yak, dog"]
    assert text.ids(targets, own).to_list() == [[9, 11, 6, 4, 3], [3], [4], [12, 3, 11, 5]]
    assert text.targets(targets[:2], own[:2]).to_list() == [[START, 9, 11, 6, 4, 3, END], [START, 3, END]]
    assert text.ids([""], text.oov_words([""], 2)).to_list() == [[]]


def test_an_endless_word_is_not_copied():
    """A word of 100,000 characters would come back as often as the model copies it."""
    text, long = adapted(), "x" * 101
    assert text.oov_words([f"{long} {long[1:]} a"], 2).numpy().tolist() == [[b"x" * 100, b""]]
    ids, weights = tf.constant([[UNKNOWN, UNKNOWN, END]]), tf.eye(3)[None, :, :2]
    assert text.text(ids, tf.constant([[long, "yak"]]), weights).numpy().tolist() == [b"yak"]


def test_ids_are_spelled_token_by_token():
    """By hand: `words` of the same ids, with "" in place of what it leaves out."""
    text, own = adapted(), tf.constant([["gnu", "yak"], ["", ""]])
    ids = tf.constant([[[4, 10, 11, UNKNOWN, END, 0]], [[5, END, 0, 0, 0, 0]]])
    found = text.spelled(ids, oov_words=own).numpy().tolist()
    assert found == [[[b"a", b"gnu", b"yak", b"<unk>", b"", b""]], [[b"dog", b"", b"", b"", b"", b""]]]
    assert [word.decode() for word in found[0][0] if word] == text.words(ids[0, 0].numpy(), ["gnu", "yak"])
    assert text.spelled(ids[1]).numpy().tolist() == found[1]


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_text_of_oov_words_is_what_was_read(dtype):
    text = adapted()
    own = text.oov_words(OOV_TEXTS, 4)
    ids = tf.cast(text.ids(OOV_TEXTS, own).to_tensor(), dtype)
    want = ["a zebra a gnu the zebra", "a dog", "", "gnu yak cat yak emu ox"]
    assert [t.decode() for t in text.text(ids, oov_words=own).numpy()] == want
    hypotheses = tf.stack([ids, tf.reverse(ids, [1])], axis=1)
    assert [t.decode() for t in text.text(hypotheses, oov_words=own).numpy()[:, 0]] == want
    assert text.text(hypotheses, oov_words=own).numpy()[3, 1].decode() == "ox emu yak cat yak gnu"
    row = [word.decode() for word in own[3].numpy()]
    assert text.words([10, 11, 8, END, 0], row) == ["gnu", "yak", "cat"]


def test_a_number_that_no_oov_word_has_is_no_text():
    text = adapted()
    assert text.text(tf.constant([[4, 11, 5]]), oov_words=tf.constant([["gnu", ""]])).numpy().tolist() == [b"a dog"]


def padded(text, texts):
    """ids up to the end and 0 after it, as a sampler gives them."""
    return text.targets(texts)[:, 1:].to_tensor()


@pytest.mark.parametrize(
    "sentence",
    [
        "a dog",
        "",
        "x",
        "我爱nlp吗",
        "x y我x y",
        "ラーメン",
        "犬cat猫",
        "2 dogs 3 5",
        "café",
        "한국어 글",
    ],
)
def test_what_is_written_of_ids_is_what_was_read(sentence):
    text = adapted([sentence, "some more words"])
    assert text.text(padded(text, [sentence, "some more words here"]))[0].numpy().decode() == sentence


def test_text_stops_at_the_end_and_leaves_out_what_is_no_word():
    text = adapted()
    ids = tf.constant([[4, 5, END, 0, 0], [END, 0, 0, 0, 0], [START, 4, UNKNOWN, 5, END], [4, 5, 4, 5, 6]])
    assert [t.decode() for t in text.text(ids).numpy()] == ["a dog", "", "a dog", "a dog a dog and"]
    assert text.words([4, 5, END, 0, 0]) == ["a", "dog"]
    assert text.words([]) == [] and text.words([END]) == []


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 3, 5)])
def test_text_of_ids_of_any_rank(shape, dtype):
    written = adapted().text(tf.broadcast_to(tf.constant([4, 5, END, 0, 0], dtype), shape))
    assert written.shape == shape[:-1]
    assert set(tf.reshape(written, [-1]).numpy()) == {b"a dog"}


@pytest.mark.slow
def test_the_saved_model_reads_and_writes_like_python(tmp_path):
    module = tf.Module()
    module.words = text = adapted(["我爱 a dog", "a dog’s"])
    module.ids = tf.function(
        lambda texts: text.ids(texts).to_tensor(), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    module.text = tf.function(text.text, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)

    def copied(sources, targets):
        own = text.oov_words(sources, 2)
        ids = text.ids(targets, own).to_tensor()
        return ids, text.text(ids, oov_words=own)

    module.copied = tf.function(copied, input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "model"))
    restored = tf.saved_model.load(str(tmp_path / "model"))
    texts = tf.constant(["A DOG’S 我 zebra", "爱"])
    ids = text.ids(texts).to_tensor()
    assert restored.ids(texts).numpy().tolist() == ids.numpy().tolist()
    assert restored.text(ids).numpy().tolist() == text.text(ids).numpy().tolist()
    for sources in ([""], ["zebra x", "a yak", "a dog gnu"]):
        ids, written = restored.copied(tf.constant(sources), tf.constant(sources))
        assert ids.numpy().tolist() == text.ids(sources, text.oov_words(sources, 2)).to_tensor().numpy().tolist()
        assert [t.decode() for t in written.numpy()] == sources


@pytest.mark.parametrize("texts", [DOGS, ["我 café ラーメン"], ["a\u2028b\x85c\x1cd\u00a0e"], []])
def test_a_saved_vocabulary_is_loaded_as_it_was(tmp_path, texts):
    text = adapted(texts)
    text.save(tmp_path / "vocabulary.txt")
    lines = (tmp_path / "vocabulary.txt").read_bytes().decode().split("\n")
    assert lines == [*text.vocabulary, ""]
    assert TextPreprocessor.load(tmp_path / "vocabulary.txt").get_config() == text.get_config()


@pytest.mark.parametrize("lines", ["\r\n".join([*SPECIAL, "dog", ""]), "\n".join([*SPECIAL, "dog"])])
def test_a_vocabulary_file_that_an_editor_wrote_is_read(tmp_path, lines):
    adapted().save(tmp_path / "vocabulary.txt")
    (tmp_path / "vocabulary.txt").write_bytes(lines.encode())
    assert TextPreprocessor.load(tmp_path / "vocabulary.txt").vocabulary == [*SPECIAL, "dog"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a\ndog\n", "a vocabulary begins with <pad>, <s>, </s>, <unk>, this one with ['a', 'dog']"),
        (b"", "a vocabulary begins with <pad>, <s>, </s>, <unk>, this one with "),
        (b"<pad>\n<unk>\n<s>\n</s>\na\n", "this one with ['<pad>', '<unk>', '<s>', '</s>']"),
        ("\n".join([*SPECIAL, "a", "dog", "a", ""]).encode(), "a vocabulary names each word once, this one 'a' twice"),
        (b"\xff\xfe<\x00", "can't decode byte 0xff in position 0"),
        (None, "No such file or directory"),
    ],
    ids=["words", "empty", "order", "twice", "utf-16", "absent"],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content, message):
    path = tmp_path / "vocabulary.txt"
    adapted().save(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        TextPreprocessor.load(path)


OPTIONS = {"class_name": "WordTokenizer", "config": {"lower_case": False}, "registered_name": "kseq>WordTokenizer"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"vocabulary.json is missing, which says how texts are read; runs that were made before it was written"),
        ("", r"Expecting value"),
        ("[]", r"vocabulary.json is not that of a TextPreprocessor"),
        ("{}", r"vocabulary.json is not that of a TextPreprocessor"),
        ('{"class_name": "WordPieces", "config": {}}', r"vocabulary.json is not that of a TextPreprocessor"),
        ('{"class_name": "TextPreprocessor", "config": {}}', r"'tokenizer'"),
        ('{"class_name": "TextPreprocessor", "config": {"tokenizer": 3}}', r"int"),
        ({"max_length": 0}, r"max_length must be at least 1, it is 0"),
        ({"max_length": "x"}, r"'<' not supported"),
        ({"size": 5}, r"unexpected keyword argument 'size'"),
        ({"tokenizer": OPTIONS | {"config": {"upper": 1}}}, r"upper"),
        ({"tokenizer": OPTIONS | {"registered_name": "kseq>No", "class_name": "No"}}, r"No"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_named(tmp_path, content, message):
    path = tmp_path / "vocabulary.txt"
    text = adapted()
    text.save(path)
    if content is None:
        (tmp_path / "vocabulary.json").unlink()
    elif isinstance(content, str):
        (tmp_path / "vocabulary.json").write_text(content)
    else:
        made = json.loads((tmp_path / "vocabulary.json").read_text())
        (tmp_path / "vocabulary.json").write_text(json.dumps(made | {"config": made["config"] | content}))
    with pytest.raises(UserError, match=rf"^vocabulary {re.escape(str(path))}: (.|\n)*{message}"):
        TextPreprocessor.load(path)


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "subword"])
@pytest.mark.parametrize("options", [{}, {"lower_case": True}])
def test_what_is_saved_says_how_it_reads(tmp_path, unit, options):
    texts = ["It's a Dog, …", "I don't  know 我爱"]
    text = TextPreprocessor(7, tokenizer=UNITS[unit](**options), max_tokens=300)
    text.adapt(texts[:1])
    text.save(tmp_path / "vocabulary.txt")
    for again in (
        TextPreprocessor.load(tmp_path / "vocabulary.txt"),
        TextPreprocessor.from_config(json.loads(json.dumps(text.get_config()))),
    ):
        assert type(again.tokenizer) is UNITS[unit] and again.get_config() == text.get_config()
        assert again.ids(texts).to_list() == text.ids(texts).to_list() and again.fingerprint() == text.fingerprint()


def test_the_fingerprint_changes_with_what_decides_the_ids_and_with_nothing_else():
    """Oracle: every two of these read some text differently; the others read all alike but for its length."""
    words = [*SPECIAL, "a", "dog"]
    kinds = (*(UNITS[unit]() for unit in ("caption", "space", "word", "character")), WordTokenizer(lower_case=True))
    made = [TextPreprocessor(5, tokenizer=kind, vocabulary=words) for kind in kinds]
    made += [
        TextPreprocessor(5, tokenizer=WordTokenizer(), vocabulary=[*SPECIAL, *more]) for more in (["dog", "a"], ["a"])
    ]
    assert len({text.fingerprint() for text in made}) == len(made)
    same = TextPreprocessor(9, tokenizer=WordTokenizer(), vocabulary=words, max_tokens=90, min_count=3)
    assert same.fingerprint() == same.with_max_length(3).fingerprint() == made[2].fingerprint()
    assert same.with_max_length(3).max_length == 3


@pytest.mark.parametrize("kind", [SpaceTokenizer, CaptionTokenizer, WordTokenizer])
def test_a_word_that_is_spelled_like_a_special_token_is_an_unknown_word(kind):
    """It is learned neither, and copied as any other word is."""
    text = TextPreprocessor(20, tokenizer=kind())
    text.adapt(["a <s> </s> <pad> <unk> dog"] * 3)
    assert not set(SPECIAL) & set(text.vocabulary[4:])
    texts = [f"a {token} dog" for token in SPECIAL]
    for row in text.ids(texts).to_list():
        assert not {PADDING, START, END} & set(row)
        if kind is SpaceTokenizer:
            assert row == [4, UNKNOWN, 5]
            assert text.vocabulary[4:] == ["a", "dog"]
    assert [row[-1] for row in text.targets(texts).to_list()] == [END] * 4
    if kind is SpaceTokenizer:
        words = text.oov_words(texts, 1)
        assert text.text(text.ids(texts, words).to_tensor(), oov_words=words).numpy().tolist() == [
            t.encode() for t in texts
        ]


def test_before_it_has_a_vocabulary_it_says_so():
    text = TextPreprocessor(5)
    for use in (text.get_vocabulary, text.fingerprint, lambda: text.ids(["a"]), lambda: text.save("nowhere.txt")):
        with pytest.raises(UserError, match=r"^there is no vocabulary yet: call adapt\(texts\), or give vocabulary=$"):
            use()
    assert text.tokens(["a b"]).to_list() == [[b"a", b"b"]]
    text.adapt(["a"])
    assert text.get_vocabulary() == [*SPECIAL, "a"] and text.ids(["a"]).to_list() == [[4]]


@pytest.mark.parametrize(("option", "least"), [("max_length", 1), ("max_tokens", 4), ("min_count", 1)])
def test_numbers_out_of_range_are_named(option, least):
    with pytest.raises(UserError, match=rf"^{option} must be at least {least}, it is {least - 1}$"):
        TextPreprocessor(**{"max_length": 5, option: least - 1})


def test_unknown_words_are_replaced_by_what_was_looked_at():
    """Oracle: a loop over random alignments, which are longer than the source and without weight on padding."""
    rng = np.random.default_rng(0)
    sources = [f"w{i} x{i} y{i}".split()[: 1 + i % 3] for i in range(6)]
    text = adapted(["a dog"], max_length=9)
    ids = rng.integers(UNKNOWN, 6, (6, 8))
    alignments = np.zeros((6, 8, 5), "float32")
    for i, source in enumerate(sources):
        alignments[i, :, : len(source)] = rng.uniform(size=(8, len(source)))
    expected = [
        " ".join(
            source[int(np.argmax(weights))] if k == UNKNOWN else text.vocabulary[k]
            for k, weights in zip(row, looks, strict=True)
        )
        for source, row, looks in zip(sources, ids, alignments, strict=True)
    ]
    source = tf.ragged.constant(sources).to_tensor()
    assert [t.decode() for t in text.text(tf.constant(ids), source, alignments).numpy()] == expected
    assert any(word in " ".join(expected) for word in ("x1", "x2", "y2")) and UNKNOWN in ids


def test_unknown_words_of_a_text_of_nothing_are_left_out():
    source, alignments = tf.constant([[]], tf.string), tf.zeros([1, 3, 1])
    assert adapted().text(tf.constant([[4, UNKNOWN, 5]]), source, alignments).numpy().tolist() == [b"a dog"]
    assert adapted().text(tf.constant([[4, UNKNOWN, END]]), source, alignments).numpy().tolist() == [b"a"]


def test_a_source_is_copied_as_it_was_written():
    """The source's token takes its tie with it; both texts are words with punctuation."""
    texts = tf.constant(["où est Zoé, l'amie?"])
    french = adapted(["où est"], max_length=9)
    french = TextPreprocessor(9, vocabulary=french.vocabulary, tokenizer=WordTokenizer())
    english = TextPreprocessor(9, vocabulary=[*SPECIAL, "where", "is", "‿?"], tokenizer=WordTokenizer())
    source = french.tokens(texts).to_tensor()
    assert source[0].numpy()[2:6].tolist() == ["Zoé".encode(), "‿,".encode(), "l'‿".encode(), b"amie"]
    ids = tf.constant([[4, 5, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 6, END]])
    alignments = tf.one_hot([[0, 1, 2, 3, 4, 5, 6, 6]], 7)
    assert english.text(ids, source, alignments).numpy()[0].decode() == "where is Zoé, l'amie?"

"""Tests of texts to tokens and back, against tables written by hand and against the text that went in."""

import random
import sys
import unicodedata

import pytest
import tensorflow as tf

import real
from kseq.data import read
from kseq.errors import UserError
from kseq.preprocessors import (
    SPECIAL,
    UNITS,
    UNKNOWN,
    ByteTokenizer,
    CaptionTokenizer,
    CharacterTokenizer,
    SpaceTokenizer,
    TextPreprocessor,
    WordTokenizer,
)

EXACT = [WordTokenizer, SpaceTokenizer, CharacterTokenizer, ByteTokenizer]


def split(tokenizer, text):
    return [token.decode() for token in tokenizer.split(tf.constant([text]))[0].numpy()]


def join(tokenizer, tokens):
    return tokenizer.join(tf.constant([tokens], tf.string))[0].numpy().decode()


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("a man's dog, don't run!", "a man ‿'s dog ‿, don ‿'t run ‿!"),
        ("We're sure I'd've SAID it’s", "We ‿'re sure I ‿'d ‿'ve SAID it ‿’s"),
        ("l'homme d’un qu'elle aujourd'hui", "l'‿ homme d’‿ un qu'‿ elle aujourd'‿ hui"),
        ("d'l'eau L'Été", "d'‿ l'‿ eau L'‿ Été"),
        ("dogs' 'quoted' rock 'n' roll", "dogs ‿' '‿ quoted ‿' rock '‿ n ‿' roll"),
        ("(a) [b], «c» “d”", "(‿ a ‿) [‿ b ‿] ‿, «‿ c ‿» “‿ d ‿”"),
        ("1,000.5 and 3.14.15, or 1,2,3,4 5.", "1,000.5 and 3.14.15 ‿, or 1,2,3,4 5 ‿."),
        ("$5 50% #1 a@b.c", "$‿ 5 50 ‿% #‿ 1 a ‿@‿ b ‿.‿ c"),
        ("well-known T-shirt -- a/b_c", "well ‿-‿ known T ‿-‿ shirt -- a ‿/‿ b ‿_‿ c"),
        ("Wait... what?! ``so''", "Wait ‿... what ‿? ‿! ``‿ so ‿''"),
        ("tokenised , already .", "tokenised , already ."),
        ("). ((", ") ‿. ( ‿("),
        ("cafe\u0301 हिन्दी naïve x²", "cafe\u0301 हिन्दी naïve x²"),
        ("我爱北京。好，吗？", "我 爱 北 京 。 好 ， 吗 ？"),
        ("我爱NLP吗2024年", "我 爱 NLP 吗 2024 年"),
        ("我 爱 NLP 吗", "我 ▁ 爱 ▁ NLP ▁ 吗"),
        ("他说“好”(yes)。ok", "他 说 “ 好 ” ‿(‿ yes ‿) 。 ok"),
        ("ラーメンを「食べる」", "ラ ー メ ン を 「 食 べ る 」"),
        ("犬 . cat,猫", "犬 ▁ . cat ‿, 猫"),
        ("<s> <unk>", "<‿ s ‿> <‿ unk ‿>"),
        ("a‿b ▁c", "a ‿_‿ b _‿ c"),
        ("  a \t b\u00a0c\u3000d\r\n", "a b c d"),
        ("", ""),
    ],
)
def test_words(text, tokens):
    assert split(WordTokenizer(), text) == tokens.split()


def test_given_words_stay_as_they_are():
    assert split(SpaceTokenizer(), " don't  stop,\tl'été\u00a0是 的. ") == ["don't", "stop,", "l'été", "是", "的."]


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("我爱 NLP。", "我 爱 ▁ N L P 。"),
        ("Don't", "D o n ' t"),
        ("cafe\u0301", "c a f e \u0301"),
        (" a  b ", "a ▁ b"),
        ("a▁b", "a _ b"),
        ("👩\u200d💻", "👩 \u200d 💻"),
        ("", ""),
    ],
)
def test_characters(text, tokens):
    assert split(CharacterTokenizer(), text) == tokens.split(" " if tokens else None)


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("Az~!", "A z ~ !"),
        ("a b", "a <0x20> b"),
        ("é。", "<0xC3> <0xA9> <0xE3> <0x80> <0x82>"),
        ("<0x41>", "< 0 x 4 1 >"),
        ("", ""),
    ],
)
def test_bytes(text, tokens):
    assert split(ByteTokenizer(), text) == tokens.split()


def test_a_byte_is_its_number_after_the_special_tokens():
    text = TextPreprocessor(9, tokenizer=ByteTokenizer(), min_count=9)
    text.adapt([])
    assert len(text.vocabulary) == len(SPECIAL) + 256
    data = "aé!"
    assert text.ids(tf.constant([data])).to_list() == [[len(SPECIAL) + byte for byte in data.encode()]]


def cleaned(text):
    """Oracle of what the tokenizers may change, by Python's tables of Unicode."""
    signs = {"‿": "_", "▁": "_", "\x00": "\ufffd"}
    text = "".join(signs.get(c) or (" " if unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc") else c) for c in text)
    return " ".join(filter(None, text.split(" ")))


LETTERS = [*"abéÉSTst123", "e\u0301", *"我爱ラんー한हि", "don't", "l'homme", "1,000.5", "👩", "\u200d", "\ufeff"]
SIGNS = [*"''’.,-!?()\"«»/_@#$%~`<>[]\\+=“”…—·‿▁", "...", *"，。「」・〜！"]
SPACES = [*"      ", "\u00a0", "\t", "\n", "\u2028", "\u3000", "\x00", "\x85"]


@pytest.fixture(scope="module")
def many():
    """Texts of random letters, signs and spaces, every neighbourhood of them many times."""
    draw = random.Random(0)
    return ["".join(draw.choices(LETTERS + SIGNS + SPACES, k=draw.randrange(25))) for _ in range(5000)]


@pytest.mark.parametrize("kind", EXACT)
def test_what_is_joined_is_what_was_split(many, kind):
    tokenizer = kind()
    expected = [cleaned(text) for text in many]
    assert [text.decode() for text in tokenizer.clean(tf.constant(many)).numpy()] == expected
    tokens = tokenizer.split(tf.constant(many))
    assert [text.decode() for text in tokenizer.join(tokens.to_tensor()).numpy()] == expected
    assert not {b"", b" ", *(name.encode() for name in SPECIAL)} & set(tokens.flat_values.numpy())


def test_words_carry_no_tie(many):
    """But for the letters of an elision or a contraction, which carry one at their apostrophe."""
    for token in set(WordTokenizer().split(tf.constant(many)).flat_values.numpy()):
        inside = token.decode().strip("‿")
        assert "‿" not in inside
        if inside != token.decode():
            assert inside[0] in "'’" or inside[-1] in "'’" or unicodedata.category(inside[0])[0] in "PS"


@real.needed
@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(
    "name, split", [(name, {"chnsenticorp": ""}.get(name, "train")) for name in real.SOURCES if name != "sst2"]
)
def test_real_texts_come_back_exactly(name, split, kind):
    source, fields, options = real.SOURCES[name]
    roles = fields.keys() - {"label", "tags"}
    texts = [row[role] for _, row in read(source, split, fields, **options).first(1000) for role in sorted(roles)]
    tokenizer = kind()
    written = tokenizer.join(tokenizer.split(tf.constant(texts)).to_tensor()).numpy()
    assert [text.decode() for text in written] == [cleaned(text) for text in texts]


@pytest.mark.parametrize(
    "kind, tokens, text",
    [
        (WordTokenizer, ["‿,", "a", "", "‿,", "(‿"], ", a, ("),
        (WordTokenizer, ["a", "", "", "b"], "a b"),
        (WordTokenizer, ["l'‿", "", "homme"], "l'homme"),
        (WordTokenizer, ["(‿", "‿)", "-‿", "‿-"], "() --"),
        (WordTokenizer, ["▁", "我", "▁", "▁", "a", "‿▁"], "我 a"),
        (WordTokenizer, ["我", "", "们", "ok", "，"], "我们ok，"),
        (CharacterTokenizer, ["▁", "a", "▁", "▁", "", "b", "▁"], "a b"),
        (ByteTokenizer, ["<0xC3>", "", "<0xA9>", "<0x20>", "<0xE3>", "<0x80>", "a"], "é \ufffda"),
        (ByteTokenizer, ["<0xE3>", "absent", "<0x80>"], "\ufffd"),
        (CaptionTokenizer, ["a", "", "dog", "我", "们"], "a dog我们"),
    ],
)
def test_tokens_in_an_order_that_no_text_has_are_joined_too(kind, tokens, text):
    assert join(kind(), tokens) == text


# --- bad input


BAD = {
    b"a do\xff\xfeg": "a do\ufffd\ufffdg",
    b"a \xc3": "a \ufffd",
    b"a\xe2\x82 b": "a\ufffd b",
    b"\xed\xa0\x80": "\ufffd\ufffd\ufffd",
    b"a\x00b\x00": "a\ufffdb\ufffd",
    b"\x01a\x02\x03b": "a b",
    b"": "",
    b" \n\t": "",
}


@pytest.mark.parametrize("data", BAD, ids=repr)
@pytest.mark.parametrize("kind", EXACT)
def test_bad_bytes_become_the_sign_for_them(kind, data):
    tokenizer = kind()
    assert join(tokenizer, split(tokenizer, data)) == BAD[data]
    lower = kind(lower_case=True)
    assert join(lower, split(lower, b"\xc3\x89 " + data)) == f"é {BAD[data]}".strip()


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "subword"])
def test_a_dataset_of_bad_texts_is_read_to_its_end(unit):
    """Empty, endless, and not UTF-8: no epoch ends in the middle. A long text is cut."""
    tokenizer = UNITS[unit]()
    text = TextPreprocessor(7, tokenizer=tokenizer)
    text.adapt(["a dog"])
    texts = tf.constant([*BAD, b"a dog " * 10_000, b"x" * 100_000, b"zebra", b"\xff" * 1000])
    epoch = tf.data.Dataset.from_tensor_slices(texts).batch(5).map(lambda batch: text.ids(batch).to_tensor())
    rows = [row for batch in epoch for row in batch.numpy()]
    assert len(rows) == len(texts) and max(map(len, rows)) == 7
    assert text.ids(tf.constant(["", " "])).to_list() == [[], []]
    if unit in ("caption", "word"):
        assert text.ids(tf.constant(["zebra a"]))[0, 0] == UNKNOWN


# --- options


@pytest.mark.parametrize("kind", EXACT)
def test_letters_are_made_small_where_it_is_asked(kind):
    tokenizer = kind(lower_case=True)
    assert join(tokenizer, split(tokenizer, "ÉCLAIR, Straße ΣΟΦΌΣ 我 L'Été")) == "éclair, straße σοφός 我 l'été"
    assert join(kind(), split(kind(), "ÉCLAIR")) == "ÉCLAIR"


@pytest.mark.parametrize("unit", UNITS)
def test_normalization_is_none_or_one_of_two(unit):
    with pytest.raises(UserError, match=r"^normalize must be none, nfc or nfkc, not 'NFC'$"):
        UNITS[unit](normalize="NFC")


@pytest.mark.parametrize("unit", ["caption", "word", "character", "byte"])
def test_normalization_without_its_extra_says_what_to_install(unit, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    message = r"^normalize = nfkc needs more than TensorFlow: pip install 'kseq\[subword\]'$"
    with pytest.raises(UserError, match=message):
        UNITS[unit](normalize="nfkc")


@pytest.mark.parametrize("normalize", ["nfc", "nfkc"])
@pytest.mark.parametrize("unit", ["caption", "word", "character", "byte"])
def test_normalization_is_that_of_python(unit, normalize):
    """Oracle: `unicodedata`."""
    pytest.importorskip("tensorflow_text", reason="needs the extra kseq[subword]")
    tokenizer = UNITS[unit](normalize=normalize)
    texts = ["cafe\u0301", "ﬁn ①", "Å ２", "한", "가"]
    expected = [unicodedata.normalize(normalize.upper(), text) for text in texts]
    if unit == "caption":
        expected = [text.lower() for text in expected]
    written = tokenizer.join(tokenizer.split(tf.constant(texts)).to_tensor())
    assert [text.decode() for text in written.numpy()] == expected


# --- vocabulary and export


@pytest.mark.parametrize("unit", ["word", "character", "byte"])
def test_a_saved_vocabulary_gives_the_same_ids(tmp_path, many, unit):
    texts = ["l'homme, (don't)", "我爱 NLP。", "a‿b <s>", *many[:200]]
    text = TextPreprocessor(50, tokenizer=UNITS[unit]())
    text.adapt(texts)
    text.save(tmp_path / "vocabulary.txt")
    lines = (tmp_path / "vocabulary.txt").read_bytes().decode().split("\n")
    assert lines == [*text.vocabulary, ""] and all(line.strip() for line in lines[:-1])
    loaded = TextPreprocessor.load(tmp_path / "vocabulary.txt")
    assert loaded.ids(tf.constant(texts)).to_list() == text.ids(tf.constant(texts)).to_list()
    assert UNKNOWN not in text.ids(tf.constant(texts)).flat_values.numpy()


@pytest.mark.parametrize("unit", ["word", "character", "byte"])
def test_the_saved_model_reads_and_writes_like_python(tmp_path, many, unit):
    module = tf.Module()
    tokenizer = UNITS[unit](lower_case=True)
    module.words = text = TextPreprocessor(30, tokenizer=tokenizer, max_tokens=500)
    text.adapt(many)
    module.ids = tf.function(
        lambda x: text.ids(x).to_tensor(), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    module.text = tf.function(text.text, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "model"))
    restored = tf.saved_model.load(str(tmp_path / "model"))
    texts = tf.constant([*many[:100], "zebra’s", "", b"\xff"])
    ids = text.ids(texts).to_tensor()
    assert restored.ids(texts).numpy().tolist() == ids.numpy().tolist()
    assert restored.text(ids).numpy().tolist() == text.text(ids).numpy().tolist()


def test_a_vocabulary_is_made_of_texts_that_are_read_once():
    """A generator of more texts than are in memory at once; counts by hand."""
    texts = ("a, b" if i % 2 else "a c" for i in range(2500))
    text = TextPreprocessor(9, tokenizer=WordTokenizer(), max_tokens=7, min_count=1250)
    text.adapt(texts)
    assert text.vocabulary == [*SPECIAL, "a", "b", "c"]
    assert next(texts, None) is None

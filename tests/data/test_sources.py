"""Tests of texts from every source, against what was written to it."""

import gzip
import itertools
import json
import re
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds

import real
from kseq.data import read, require_splits, source_files, sources
from kseq.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        content = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def texts(*arguments, **options):
    return [example for _, example in read(*arguments, **options)]


# --- kinds


@pytest.mark.parametrize("end", ["", ".gz"])
def test_parallel_files_are_read_line_by_line(tmp_path, write, end):
    """A line end of Unicode that is none of a file (U+2028) does not part the lines."""
    write(f"train.fr{end}", "l'homme\n\nun\u2028chat \r\n")
    write(f"train.en{end}", "the man\nnothing\na cat")
    source = f"text:{tmp_path}/{{split}}.{{field}}{end}"
    found = list(read(source, "train", {"source": "fr", "target": "en"}))
    assert found == [
        (f"{tmp_path}/train.fr{end}:1", {"source": "l'homme", "target": "the man"}),
        (f"{tmp_path}/train.fr{end}:2", {"source": "", "target": "nothing"}),
        (f"{tmp_path}/train.fr{end}:3", {"source": "un\u2028chat ", "target": "a cat"}),
    ]


@pytest.mark.parametrize("fr, en", [(3, 2), (2, 3), (1, 0), (0, 4)])
def test_parallel_files_of_other_lengths_are_named_with_their_lengths(tmp_path, write, fr, en):
    write("a.fr", "x\n" * fr)
    write("a.en", "y\n" * en)
    examples = iter(read(f"text:{tmp_path}/a.{{field}}", "", {"source": "fr", "target": "en"}))
    assert len(list(itertools.islice(examples, min(fr, en)))) == min(fr, en)
    message = f"as many lines each; {tmp_path}/a.fr has {fr}, {tmp_path}/a.en has {en}"
    with pytest.raises(UserError, match=re.escape(message)):
        next(examples)


def test_generated_numbers_are_a_source():
    fields = {"source": "fr", "target": "en"}
    (where, first), *others = read("toy:numbers", "dev", fields)
    assert where == "toy:numbers dev-00000" and first.keys() == {"source", "target"} and len(others) == 999
    with pytest.raises(UserError, match=r"^toy:numbers: there is no split 'valid'; it has train, dev, test$"):
        texts("toy:numbers", "valid", fields)


def test_one_file_needs_no_pattern_and_several_do(write):
    path = write("a.txt", "one\ntwo\n")
    assert texts(f"text:{path}", "train", {"text": "any"}) == [{"text": "one"}, {"text": "two"}]
    with pytest.raises(UserError, match=r"must hold \{field\}, which stands for fr and en in turn"):
        texts(f"text:{path}", "train", {"source": "fr", "target": "en"})


TABLES = {
    "tsv": ("a\tb\n1\tx y\n2\t\n", {}),
    "csv": ('a,b\n1,"x y"\n"2",\n', {}),
    "jsonl": ('{"a": 1, "b": "x y"}\n\n{"a": "2", "b": "", "c": null}\n', {}),
}


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_kind_hold_the_same(write, kind, end):
    content, options = TABLES[kind]
    path = write(f"train.{kind}{end}", content)
    source = f"{kind}:{path.parent}/{{split}}.{kind}{end}"
    found = list(read(source, "train", {"label": "a", "text": "b"}, **options))
    assert [example for _, example in found] == [{"label": "1", "text": "x y"}, {"label": "2", "text": ""}]
    lines = (1, 3) if kind == "jsonl" else (2, 3)
    assert [where for where, _ in found] == [f"{path}:{line}" for line in lines]


@pytest.mark.parametrize("kind, mark", [("tsv", "\t"), ("csv", ",")])
def test_columns_may_be_named_by_the_config(write, kind, mark):
    path = write("a", f"p{mark}d{mark}s\nq{mark}e{mark}t\n")
    fields = {"document": "two", "summary": "three"}
    found = texts(f"{kind}:{path}", "train", fields, columns=("one", "two", "three"))
    assert found == [{"document": "d", "summary": "s"}, {"document": "e", "summary": "t"}]
    with pytest.raises(UserError, match=re.escape(f"{path}:1: 3 field(s) between ")) as caught:
        texts(f"{kind}:{path}", "train", fields, columns=("one", "two"))
    assert "where data.columns names 2 (one, two)" in str(caught.value)


def test_quotation_marks_of_a_tsv_are_text_unless_the_config_says_that_they_quote(write):
    path = write("a.tsv", 'a\tb\n"x"\t"y ""z"""\n')
    fields = {"a": "a", "b": "b"}
    assert texts(f"tsv:{path}", "", fields) == [{"a": '"x"', "b": '"y ""z"""'}]
    assert texts(f"tsv:{path}", "", fields, quotes=True) == [{"a": "x", "b": 'y "z"'}]


def test_a_labelled_line_is_a_label_and_a_text(write):
    path = write("a.txt", "0 How did it ?\n\nno\n  3   two  spaces \nDESC\ttab\n")
    found = list(read(f"labelled:{path}", "train", {"text": "text", "label": "label"}))
    assert [(where.rpartition(":")[2], row["label"], row["text"]) for where, row in found] == [
        ("1", "0", "How did it ?"),
        ("3", "no", ""),
        ("4", "3", "two  spaces"),
        ("5", "DESC", "tab"),
    ]


@pytest.mark.parametrize(
    "value, text",
    [
        ("x", "x"),
        (3, "3"),
        (4.5, "4.5"),
        (True, "true"),
        (["a", "b c"], "a b c"),
        ("\ud83d\ude00", "😀"),
        ("a\ud800b", "a\ufffdb"),  # half a character, which UTF-8 cannot write
        ("a\x00b", "a\x00b"),
    ],
)
def test_values_of_json_become_texts(write, value, text):
    path = write("a.jsonl", json.dumps({"in": {"side": value}}) + "\n")
    assert texts(f"jsonl:{path}", "", {"text": "in/side"}) == [{"text": text}]


@pytest.mark.parametrize("value", [None, {}, {"a": "b"}, [], ["a", None], [["a"]], [1]])
def test_values_that_are_no_texts_are_named(write, value):
    path = write("a.jsonl", '{"x": "first"}\n' + json.dumps({"x": value}) + "\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:2: 'x' is not a text, a number or a list of texts, but ")):
        texts(f"jsonl:{path}", "", {"text": "x"})


# --- splits


def test_the_split_may_be_a_field(write):
    path = write("a.jsonl", '{"t": "one", "s": "train"}\n{"t": "two", "s": "dev"}\n{"t": "three", "s": "train"}\n')
    fields = {"text": "t", "split": "s"}
    assert texts(f"jsonl:{path}", "train", fields) == [{"text": "one"}, {"text": "three"}]
    assert texts(f"jsonl:{path}", "dev", fields) == [{"text": "two"}]
    with pytest.raises(UserError, match=re.escape(f"jsonl:{path}: split 'test' has no examples")):
        texts(f"jsonl:{path}", "test", fields)


@pytest.mark.parametrize("side", ["fr", "en"])
def test_a_split_without_any_text_is_an_error(write, side):
    """Else the model learns nothing, or its empty answers are all right."""
    for name in ("fr", "en"):
        path = write(f"dev.{name}", "\n \n\n" if name == side else "one\n\nthree\n")
    source = f"text:{path.parent}/{{split}}.{{field}}"
    with pytest.raises(UserError, match=re.escape(f"{source}: all texts of {side} in split 'dev' are empty")):
        texts(source, "dev", {"source": "fr", "target": "en"})


@pytest.fixture
def numbers(write):
    """2,000 examples of 1,000 texts: each stands twice, far apart."""
    path = write("numbers.txt", "".join(f"{i % 7} number {i}\n" for i in range(1000)) * 2)
    return read(f"labelled:{path}", "train", {"label": "label", "text": "text"})


def held_out(examples, shares=None, seed=0, by=()):
    """(list that stays, *lists held out)."""
    stay, held = examples.hold_out(shares or {"dev": 0.1}, seed, by)
    return [list(part) for part in (stay, *held.values())]


def test_what_is_held_out_depends_on_the_seed_alone(numbers):
    rest, held = held_out(numbers)
    assert [rest, held] == held_out(numbers)
    assert [*rest, *held] != list(numbers) and sorted([*rest, *held]) == sorted(numbers)
    other = held_out(numbers, seed=1)[1]
    assert 0 < len([pair for pair in held if pair in other]) < len(held) / 2


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("by", [(), ("text",)])
def test_the_share_that_is_held_out_is_about_the_one_asked_for(numbers, share, by):
    """Four standard deviations of 1,000 draws."""
    for part in held_out(numbers, {"dev": share, "test": share / 2}, 5, by)[1:]:
        assert abs(len(part) / 2 - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5
        share /= 2


def test_equal_texts_are_held_out_together_and_new_ones_move_none(numbers, write):
    rest, held = ({example["text"] for _, example in part} for part in held_out(numbers))
    assert not rest & held
    path = write("more.txt", "".join(f"{i % 7} number {i}\n" for i in range(-500, 1000)))
    more = held_out(read(f"labelled:{path}", "train", {"text": "text", "label": "label"}))[1]
    assert held <= {example["text"] for _, example in more}


def test_several_splits_are_held_out_at_once_and_a_further_one_moves_none_of_the_first(numbers):
    rest, dev, test = held_out(numbers, {"dev": 0.1, "test": 0.2}, by=("text",))
    assert sorted([*rest, *dev, *test]) == sorted(numbers) and min(map(len, (rest, dev, test))) > 100
    assert dev == held_out(numbers, by=("text",))[1]


def test_examples_that_share_a_text_are_on_one_side_whatever_their_labels(write):
    path = write("a.txt", "".join(f"{label} Number  {i}\n{label} number {i}\n" for label in "abc" for i in range(300)))
    examples = read(f"labelled:{path}", "train", {"text": "text", "label": "label"})
    parts = held_out(examples, {"dev": 0.2, "test": 0.2}, by=("text",))
    texts = [{" ".join(example["text"].lower().split()) for _, example in part} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 300
    apart = [{example["text"] for _, example in part} for part in held_out(examples)]
    assert apart[0] & apart[1]


def test_with_several_roles_one_shared_text_is_enough(write):
    """Ten pairs each are a chain: the hypothesis of one is the premise of the next. They stand far apart."""
    chains = [(f"p{i}", f"p{i + 1}" if i % 10 < 9 else f"end {i}") for i in range(1000)]
    path = write("a.tsv", "a\tb\n" + "".join(f"{a}\t{b}\n" for a, b in chains[::2] + chains[1::2]))
    parts = held_out(read(f"tsv:{path}", "", {"a": "a", "b": "b"}), {"dev": 0.2, "test": 0.2}, by=("a", "b"))
    tens = [{int(example["a"][1:]) // 10 for _, example in part} for part in parts]
    assert sum(map(len, tens)) == len(set.union(*tens)) == 100 and min(map(len, tens)) > 5
    assert [len(part) for part in parts] == [10 * len(part) for part in tens]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_that_is_none_is_named(numbers, share):
    with pytest.raises(UserError, match=f"the share held out for dev must be between 0 and 1, got {share}"):
        numbers.hold_out({"dev": share}, 0)


def test_shares_that_leave_nothing_are_refused(numbers):
    with pytest.raises(UserError, match="the shares held out for dev and test must leave something of train, got"):
        numbers.hold_out({"dev": 0.5, "test": 0.5}, 0)


@pytest.mark.parametrize(
    "source, fields",
    [("csv:mine/all.csv", {}), ("text:mine/{field}.txt", {"source": "fr"}), ("jsonl:a.jsonl", {"split": ""})],
)
def test_files_that_are_the_same_for_two_splits_are_refused(source, fields):
    splits = {"data.train": "train", "data.dev": "dev"}
    with pytest.raises(UserError) as error:
        require_splits(source, fields, splits)
    assert str(error.value) == (
        f"data.source {source!r} gives the same examples for data.train and data.dev. Put {{split}} where the file's "
        "name has the split, or hold a share out of train with data.holdout, or name the field that has the split of "
        "an example with data.fields.split"
    )
    require_splits(source, fields, {"data.train": "train"})
    require_splits(source, {**fields, "split": "part"}, splits)
    for other in ("csv:mine/{split}.csv", "tsv:{split}/all.tsv", "tfds:snli", "toy:numbers"):
        require_splits(other, fields, splits)


def test_a_slice_of_another_split_is_refused():
    message = r"data.dev = 'train\[:10%\]' is a part of data.train = 'train': the same examples; give each a slice"
    with pytest.raises(UserError, match=message):
        require_splits("tfds:snli", {}, {"data.train": "train", "data.dev": "train[:10%]"})
    require_splits("tfds:snli", {}, {"data.train": "train[10%:]", "data.dev": "train[:10%]"})


def test_two_splits_of_one_name_are_refused():
    message = "data.dev and data.test are both 'dev': the same examples; name another split, or hold a share"
    with pytest.raises(UserError, match=message):
        require_splits("tfds:snli", {}, {"data.train": "train", "data.dev": "dev", "data.test": "dev"})


def test_examples_are_read_anew_and_can_be_counted_off(write):
    path = write("a.txt", "".join(f"{i}\n" for i in range(5)))
    examples = read(f"text:{path}", "", {"text": "x"})
    assert list(examples) == list(examples) and len(list(examples)) == 5
    assert list(examples.first(0)) == list(examples) and list(examples.first(9)) == list(examples)
    assert list(examples.first(2)) == list(examples)[:2] == list(examples.first(2))
    path.write_text("new\n")
    assert [example for _, example in examples] == [{"text": "new"}]


def test_a_file_is_not_held_in_memory(write):
    """2 MB of lines, of which a walk may hold 0.2 MB at a time."""
    path = write("a.tsv", "a\tb\n" + ("x" * 1000 + "\ty\n") * 2000)
    rest, _ = read(f"tsv:{path}", "", {"a": "a", "b": "b"}).hold_out({"dev": 0.1}, 0)
    tracemalloc.start()
    for _ in rest:
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2e5


# --- errors


@pytest.mark.parametrize("source", ["", "text", "tsv:", "tfds:", "a.tsv", "toy:shapes", "jsonl"])
def test_an_unknown_source_is_named(source):
    with pytest.raises(UserError, match=re.escape(f"data.source {source!r} is not one of {sources.FORMS}")):
        read(source, "train", {"text": "text"})


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("field", ["absent", "b/c", "a/", ""])
def test_a_field_that_is_not_there_is_named(write, kind, field):
    path = write("a", TABLES[kind][0])
    message = f"{path}:{1 if kind == 'jsonl' else 2}: there is no field {field!r}; it has a, b. Set data.fields.text"
    with pytest.raises(UserError, match=re.escape(message)):
        texts(f"{kind}:{path}", "train", {"text": field})


@pytest.mark.parametrize("kind", ["text", "labelled", *TABLES])
def test_a_source_without_examples_is_an_error(write, kind):
    path = write("a", {"tsv": "a\tb\n", "csv": "a,b\n"}.get(kind, ""))
    with pytest.raises(UserError, match=re.escape(f"{kind}:{path}: split 'train' has no examples")):
        texts(f"{kind}:{path}", "train", {"text": "a"})


@pytest.mark.parametrize("kind", ["text", "labelled", *TABLES])
def test_a_file_that_is_not_there_is_named(tmp_path, kind):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/dev.x cannot be read: No such file")):
        texts(f"{kind}:{tmp_path}/{{split}}.x", "dev", {"text": "a"})


LATIN = {
    "text": b"a caf\xe9\n",
    "labelled": b"0 a caf\xe9\n",
    "tsv": b"a\ttext\n0\ta caf\xe9\n",
    "csv": b'a,text\n0,"a caf\xe9"\n',
    "jsonl": b'{"text": "a caf\xe9"}\n',
}


@pytest.mark.parametrize("kind", LATIN)
def test_what_is_not_utf_8_is_named_or_read_as_the_config_says(write, kind):
    """A good line, "é" in UTF-8, stays as it is."""
    good = {"text": "é", "labelled": "0 é", "tsv": "0\té", "csv": "0,é", "jsonl": '{"text": "é"}'}[kind]
    path = write("a", LATIN[kind] + good.encode() + b"\n")
    line = 2 if kind in ("tsv", "csv") else 1
    with pytest.raises(UserError, match=re.escape(f"{path}:{line}: not UTF-8 (byte ")) as caught:
        texts(f"{kind}:{path}", "", {"text": "text"})
    assert str(caught.value).endswith("of the line); mend it, or set data.bad_bytes to latin-1 or replace")
    for rule, text in {"latin-1": "a café", "replace": "a caf\ufffd"}.items():
        assert texts(f"{kind}:{path}", "", {"text": "text"}, bad_bytes=rule) == [{"text": text}, {"text": "é"}]
    with pytest.raises(UserError, match=r"data\.bad_bytes must be one of stop, latin-1, replace, not 'ignore'"):
        texts(f"{kind}:{path}", "", {"text": "text"}, bad_bytes="ignore")


# --- TensorFlow Datasets


@pytest.fixture
def mock(tmp_path):
    """TFDS makes up texts and classes; nothing is downloaded."""
    with tfds.testing.mock_data(num_examples=5, data_dir=str(tmp_path)):
        yield


@pytest.mark.parametrize(
    "name, fields, classes",
    [
        ("ted_hrlr_translate/pt_to_en", {"source": "pt", "target": "en"}, ()),
        ("wmt14_translate/fr-en", {"source": "fr", "target": "en"}, ()),
        ("gigaword", {"document": "document", "summary": "summary"}, ()),
        ("cnn_dailymail", {"document": "article", "summary": "highlights"}, ()),
        ("snli", {"premise": "premise", "label": "label"}, ("entailment", "neutral", "contradiction")),
        ("multi_nli", {"premise": "premise", "label": "label"}, ("entailment", "neutral", "contradiction")),
        ("imdb_reviews", {"text": "text", "label": "label"}, ("neg", "pos")),
        ("ag_news_subset", {"text": "description", "label": "label"}, ("World", "Sports", "Business", "Sci/Tech")),
        ("glue/mrpc", {"text": "sentence1", "label": "label"}, ("equivalent", "not_equivalent")),
    ],
)
def test_datasets_of_tfds_have_the_features_that_are_named_here(mock, name, fields, classes):
    examples = list(read(f"tfds:{name}", "train", fields))
    assert [where for where, _ in examples] == [f"tfds:{name} train[{i}]" for i in range(5)]
    for _, example in examples:
        assert example.keys() == fields.keys() and all(isinstance(text, str) for text in example.values())
        assert not classes or example["label"] in classes


def snli_rows(self, split, decoders=None, **kwargs):
    return [{"premise": f"é {i}".encode(), "hypothesis": b"", "label": np.int64(i - 1)} for i in range(4)]


def tagged_rows(self, split, decoders=None, **kwargs):
    tags = np.array([0, 5, 2])
    return [{"tokens": [b"EU", b"rejects", b"\xff"], "ner": tags, "pos": tags, "chunks": tags, "id": b"7"}]


def test_classes_are_names_and_pairs_without_one_are_passed_over(tmp_path):
    """SNLI gives the number −1 where people did not agree."""
    with tfds.testing.mock_data(as_data_source_fn=snli_rows, data_dir=str(tmp_path)):
        examples = read("tfds:snli", "train", {"text": "premise", "label": "label"})
        names = ("entailment", "neutral", "contradiction")
        assert list(examples) == [
            (f"tfds:snli train[{i + 1}]", {"text": f"é {i + 1}", "label": name}) for i, name in enumerate(names)
        ]
        assert len(texts("tfds:snli", "train", {"text": "premise"})) == 4


def test_lists_of_tfds_are_words_and_lists_of_classes_are_names(tmp_path):
    with tfds.testing.mock_data(as_data_source_fn=tagged_rows, data_dir=str(tmp_path)):
        found = texts("tfds:conll2003", "train", {"text": "tokens", "tags": "ner"})
    assert found == [{"text": "EU rejects \ufffd", "tags": "O B-LOC I-PER"}]


@pytest.mark.parametrize("field", ["absent", "premise/x", ""])
def test_a_feature_that_is_not_there_is_named(mock, field):
    with pytest.raises(UserError, match=rf"tfds:snli train\[0\]: there is no field {field!r}; it has .*premise"):
        texts("tfds:snli", "train", {"text": field})


@pytest.mark.parametrize(
    "name, message",
    [
        ("multi_nlii", "tfds:multi_nlii: there is no such dataset; did you mean multi_nli or multi_nli_mismatch"),
        ("kseq_zqx", "tfds:kseq_zqx: there is no such dataset; `tfds.list_builders..` names all that"),
        ("glue/mrpcc", r"tfds:glue/mrpcc, split 'train': ValueError: .*; did you mean glue/mrpc.*\?$"),
    ],
)
def test_a_mistyped_dataset_is_one_line_with_the_nearest_names(name, message):
    with pytest.raises(UserError, match=message) as error:
        texts(f"tfds:{name}", "train", {"text": "text"})
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


# --- real data


@real.needed
@pytest.mark.parametrize(
    "name, counts",
    [
        ("multi30k", {"train": 29_000, "val": 1_014}),
        ("snips", {"train": 13_084, "valid": 700}),
        ("sick", {"train": 4_500, "trial": 500}),
        ("debian-synopsis", {"dev": 1_862}),
        ("trec", {"train": 5_452}),
        ("sst2", {"train": 6_920, "dev": 872}),
        ("chnsenticorp", {"": 7_766}),
    ],
)
def test_real_data_are_read_whole(name, counts):
    source, fields, options = real.SOURCES[name]
    assert {split: sum(1 for _ in read(source, split, fields, **options)) for split in counts} == counts


def test_the_files_of_a_split_are_named_once_and_only_where_all_are_there(tmp_path, write):
    fields = {"source": "fr", "target": "en"}
    assert source_files(f"text:{tmp_path}/{{split}}.{{field}}", "train", fields) == []
    french, english, table = (str(write(name, "x\n")) for name in ("train.fr", "train.en", "train.tsv"))
    assert source_files(f"text:{tmp_path}/{{split}}.{{field}}", "train", fields) == [french, english]
    for kind in ("tsv", "csv", "jsonl", "labelled"):
        assert source_files(f"{kind}:{tmp_path}/{{split}}.tsv", "train", fields) == [table]
    for source in ("toy:numbers", "tfds:wmt14_translate", f"tsv:{tmp_path}", f"{table}"):
        assert source_files(source, "train", fields) == []

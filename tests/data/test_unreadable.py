"""Tests of what is said of files that are not there, for each kind of source that reads files."""

import re

import pytest

from kseq.data import read, read_pictures, read_recordings, read_tunes
from kseq.errors import UserError

MISSING = "cannot be read: No such file or directory"
NO_FOLDER = "there is no such folder"


def texts(source, split):
    return list(read(source, split, {"source": "fr", "target": "en"}))


def recordings(source, split):
    return read_recordings(source, split, fields={"audio": "audio", "text": "text"})


def pictures(source, split):
    return read_pictures(source, split, fields={"image": "image", "caption": "caption"})


@pytest.mark.parametrize(
    "function, source, said",
    [
        (texts, "text:nowhere/{split}.{field}", f"nowhere/dev.fr {MISSING}"),
        (texts, "tsv:nowhere/{split}.tsv", f"nowhere/dev.tsv {MISSING}"),
        (texts, "csv:nowhere.csv.gz", f"nowhere.csv.gz {MISSING}"),
        (texts, "labelled:nowhere/{split}", f"nowhere/dev {MISSING}"),
        (texts, "jsonl:nowhere/{split}", f"nowhere/dev {MISSING}"),
        (read_tunes, "mat:nowhere.mat", f"nowhere.mat {MISSING}"),
        (read_tunes, "midi:nowhere/{split}", f"nowhere/dev: {NO_FOLDER}"),
        (recordings, "tsv:nowhere/{split}.tsv", f"nowhere/dev.tsv {MISSING}"),
        (recordings, "textgrid:nowhere/{split}", f"nowhere/dev: {NO_FOLDER}"),
        (pictures, "tsv:nowhere/{split}.tsv", f"nowhere/dev.tsv {MISSING}"),
    ],
)
def test_a_missing_file_is_told_with_its_source_and_split(function, source, said):
    message = f"{said}; it is split 'dev' of data.source {source!r}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        function(source, "dev")


def test_a_message_that_names_the_source_names_it_once():
    with pytest.raises(UserError) as error:
        texts("text:nowhere", "dev")  # without {field}
    assert str(error.value).count("data.source") == 1


def test_what_fetches_public_data_is_told_before_the_source():
    source = "tsv:data/multi30k/{split}.tsv"
    with pytest.raises(UserError, match=r"directory; get it with python -m .*; it is split 'dev' of data.source 'tsv"):
        texts(source, "dev")

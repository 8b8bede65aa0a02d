"""Tests of pictures from every source, against what was written to it."""

import gzip
import io
import os
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import kseq.data
from kseq.data import Picture, hold_out_listed, read_pictures, toy
from kseq.errors import UserError

FIELDS = {"image": "image", "caption": "caption"}


@pytest.fixture
def folder(tmp_path):
    """A data folder with three files that stand for pictures; nothing but `read` looks into them."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (folder / "images" / f"{name}.png").write_bytes(f"picture {name}".encode())
    return folder


def table(folder, *rows, name="table.tsv"):
    (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return f"tsv:{folder / name}"


def said(pictures):
    return [(picture.id, picture.captions) for picture in pictures]


# --- tables


def test_captions_of_one_picture_are_grouped_in_the_order_of_the_table(folder):
    rows = [("images/b.png", "one"), ("images/a.png", " two "), ("images/b.png", "three"), ("images/b.png", "one")]
    pictures = read_pictures(table(folder, ("image", "caption"), *rows), "train", fields=FIELDS)
    assert said(pictures) == [("images/b.png", ("one", "three", "one")), ("images/a.png", ("two",))]
    assert [picture.where for picture in pictures] == [f"{folder}/table.tsv:2", f"{folder}/table.tsv:3"]
    assert [picture.read() for picture in pictures] == [b"picture b", b"picture a"]
    assert all(picture.boxes.shape == (0, 4) for picture in pictures)


def test_count_counts_pictures_and_keeps_all_their_captions(folder):
    rows = [("images/a.png", "one"), ("images/b.png", "two"), ("images/a.png", "three")]
    source = table(folder, ("image", "caption"), *rows)
    assert said(read_pictures(source, "train", fields=FIELDS, count=1)) == [("images/a.png", ("one", "three"))]
    assert len(read_pictures(source, "train", fields=FIELDS, count=9)) == 2


@pytest.mark.parametrize(
    "pattern, row",
    [
        ("images/{name}.png", {"name": "a"}),
        ("{folder}/{name}.{kind}", {"folder": "images", "name": "a", "kind": "png"}),
        ("{folder}", {"folder": "images/a.png"}),
        ("file name", {"file name": "images/a.png"}),
    ],
)
def test_the_image_may_be_a_pattern_over_columns(folder, pattern, row):
    source = table(folder, (*row, "text"), (*row.values(), "a dog"))
    pictures = read_pictures(source, "train", fields={"image": pattern, "caption": "text"})
    assert said(pictures) == [("images/a.png", ("a dog",))]
    assert pictures[0].read() == b"picture a"


def test_the_split_may_be_in_the_name_of_the_file(folder):
    for split in ("train", "dev"):
        table(folder, ("image", "caption"), ("images/a.png", f"of {split}"), name=f"table.{split}.tsv")
    for split in ("train", "dev"):
        pictures = read_pictures(f"tsv:{folder}/table.{{split}}.tsv", split, fields=FIELDS)
        assert said(pictures) == [("images/a.png", (f"of {split}",))]
    with pytest.raises(UserError, match=r"table\.test\.tsv cannot be read: No such file"):
        read_pictures(f"tsv:{folder}/table.{{split}}.tsv", "test", fields=FIELDS)


def test_the_split_may_be_a_column(folder):
    rows = [("images/a.png", "train", "one"), ("images/b.png", "dev", "two"), ("images/c.png", "train", "three")]
    source = table(folder, ("image", "part", "caption"), *rows)
    fields = FIELDS | {"split": "part"}
    assert said(read_pictures(source, "dev", fields=fields)) == [("images/b.png", ("two",))]
    assert [p.id for p in read_pictures(source, "train", fields=fields)] == ["images/a.png", "images/c.png"]
    assert len(read_pictures(source, "train", fields=FIELDS)) == 3  # the column is not named: all rows
    with pytest.raises(UserError, match=f"^{re.escape(source)}: split 'test' has no pictures$"):
        read_pictures(source, "test", fields=fields)


def test_pictures_are_held_out_with_all_their_captions():
    def pictures(count):
        return read_pictures("toy:shapes", "train", fields={}, count=count, size=32)

    rest, held = hold_out_listed(pictures(100), {"dev": 0.2, "test": 0.1}, seed=0, kind="pictures")
    parts = [{picture.id for picture in part} for part in (rest, held["dev"], held["test"])]
    assert set.union(*parts) == {picture.id for picture in pictures(100)} and list(held) == ["dev", "test"]
    assert [len(part) for part in parts] == [75, 17, 8]
    fewer = hold_out_listed(pictures(50), {"dev": 0.2}, seed=0, kind="pictures")[1]["dev"]
    assert {picture.id for picture in fewer} < parts[1]
    with pytest.raises(UserError, match=r"holding out \{'test': 0.001\} of 5 pictures leaves none for test"):
        hold_out_listed(pictures(5), {"test": 0.001}, seed=0, kind="pictures")


def test_a_table_may_be_compressed(folder):
    (folder / "t.tsv.gz").write_bytes(gzip.compress(b"image\tcaption\nimages/a.png\ta dog\n"))
    (picture,) = read_pictures(f"tsv:{folder}/t.tsv.gz", "train", fields=FIELDS)
    assert picture.where == f"{folder}/t.tsv.gz:2" and picture.read() == b"picture a"


def test_a_line_that_is_not_utf_8_is_read_as_the_config_says(folder):
    (folder / "t.tsv").write_bytes(b"image\tcaption\nimages/a.png\ta caf\xe9\n")
    with pytest.raises(UserError, match=r"t\.tsv:2: not UTF-8 \(byte 19 of the line\); mend it, or set data.bad_bytes"):
        read_pictures(f"tsv:{folder}/t.tsv", "train", fields=FIELDS)
    (picture,) = read_pictures(f"tsv:{folder}/t.tsv", "train", fields=FIELDS, bad_bytes="latin-1")
    assert picture.captions == ("a café",)


@pytest.mark.parametrize(
    "fields, column",
    [
        ({"caption": "text"}, "text"),
        ({"image": "file"}, "file"),
        ({"image": "images/{name}.png"}, "name"),
        ({"image": "{image.png}"}, "image.png"),
        ({"image": "{}"}, ""),
        ({"split": "part"}, "part"),
    ],
)
def test_a_column_that_is_not_there_is_named(folder, fields, column):
    source = table(folder, ("image", "caption"), ("images/a.png", "a dog"))
    message = f"table.tsv:2: there is no column {column!r}; the first line names image, caption. Set data.fields"
    with pytest.raises(UserError, match=re.escape(message)):
        read_pictures(source, "train", fields=FIELDS | fields)


@pytest.mark.parametrize(
    "pattern, message",
    [
        (
            "images/{image",
            "expected '}' before end of string; a column is {name}, and a brace that is meant is doubled",
        ),
        ("images/image}", "Single '}' encountered in format string; a column is {name}"),
        ("{image:>99999999999}", "between braces only the name of a column may stand"),
        ("{image!r}", "between braces only the name of a column may stand"),
    ],
)
def test_a_pattern_that_is_none_is_named(folder, pattern, message):
    source = table(folder, ("image", "caption"), ("images/a.png", "a dog"))
    with pytest.raises(UserError, match=re.escape(f"data.fields.image {pattern!r}: {message}")):
        read_pictures(source, "train", fields=FIELDS | {"image": pattern})


@pytest.mark.parametrize("caption", ["", "  ", "\u3000"])
def test_an_empty_caption_is_an_error(folder, caption):
    source = table(folder, ("image", "caption"), ("images/a.png", "a dog"), ("images/a.png", caption))
    with pytest.raises(UserError, match=r"table\.tsv:3: the caption is empty"):
        read_pictures(source, "train", fields=FIELDS)


@pytest.mark.parametrize("kind", ["up", "up-inside", "absolute", "link", "link-folder"])
def test_no_path_leaves_the_data_folder(folder, kind):
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(folder.parent)
    names = {
        "up": "../secret.png",
        "up-inside": "images/../../secret.png",
        "absolute": str(secret),
        "link": "link.png",
        "link-folder": "out/secret.png",
    }
    source = table(folder, ("image", "caption"), (names[kind], "a dog"))
    message = f"table.tsv:2: {names[kind]!r} leaves the data folder {folder}"
    with pytest.raises(UserError, match=re.escape(message)):
        read_pictures(source, "train", fields=FIELDS)


@pytest.mark.parametrize("name", ["images/../images/a.png", "inner.png", "./images/a.png"])
def test_a_path_may_wander_inside_the_data_folder(folder, name):
    (folder / "inner.png").symlink_to("images/a.png")
    linked = folder.parent / "linked"
    linked.symlink_to(folder)
    table(folder, ("image", "caption"), (name, "a dog"))
    for place in (folder, linked):
        assert read_pictures(f"tsv:{place}/table.tsv", "train", fields=FIELDS)[0].read() == b"picture a"


def test_a_link_that_goes_in_a_circle_is_an_error(folder):
    (folder / "circle.png").symlink_to("circle.png")
    source = table(folder, ("image", "caption"), ("circle.png", "a dog"))
    with pytest.raises(UserError, match=r"table\.tsv:2: .*circle\.png.*cannot be read"):
        read_pictures(source, "train", fields=FIELDS)[0].read()


def test_a_missing_picture_is_an_error_when_it_is_read_and_not_before(folder):
    source = table(folder, ("image", "caption"), ("images/a.png", "a dog"), ("images/absent.png", "a cat"))
    there, absent = read_pictures(source, "train", fields=FIELDS)
    message = f"table.tsv:3: picture {folder}/images/absent.png cannot be read: No such file or directory"
    with pytest.raises(UserError, match=re.escape(message)):
        absent.read()
    (folder / "images" / "a.png").unlink()  # after it was listed
    with pytest.raises(UserError, match=r"table\.tsv:2: picture .*a\.png cannot be read: No such file"):
        there.read()


@pytest.mark.parametrize("name", ["images", ""])
def test_a_folder_is_no_picture(folder, name):
    (picture,) = read_pictures(table(folder, ("image", "caption"), (name, "a dog")), "train", fields=FIELDS)
    with pytest.raises(UserError, match=r"table\.tsv:2: picture .* is not a file"):
        picture.read()


def test_the_fingerprint_changes_when_the_file_does(folder):
    source = table(folder, ("image", "caption"), ("images/a.png", "a dog"), ("images/absent.png", "a cat"))

    def fingerprints():
        return [picture.fingerprint for picture in read_pictures(source, "train", fields=FIELDS)]

    first = fingerprints()
    assert fingerprints() == first and len(set(first)) == 2
    os.utime(folder / "images" / "a.png", ns=(1, 1))
    (folder / "images" / "absent.png").write_bytes(b"now it is there")
    second = fingerprints()
    assert all(a != b for a, b in zip(first, second, strict=True))
    (folder / "images" / "a.png").write_bytes(b"another picture")
    os.utime(folder / "images" / "a.png", ns=(1, 1))
    assert fingerprints()[0] != second[0]


def test_pictures_of_two_data_folders_have_two_fingerprints(tmp_path):
    """Archives unpack with the times they hold, so name, size and time may all be the same."""
    found = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.bmp").write_bytes(name.encode())
        os.utime(tmp_path / name / "0.bmp", ns=(1, 1))
        source = table(tmp_path / name, ("image", "caption"), ("0.bmp", "a dog"))
        found.add(read_pictures(source, "train", fields=FIELDS)[0].fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize(
    "caption, stays",
    [
        ("a dog on the left, asleep", False),
        ('a "Right" turn', False),
        ("a left-handed man", False),
        ("the leftmost dog", False),
        ("ein Hund links.", False),
        ("die rechte Hand", False),
        ("un chien à gauche.", False),
        ("à droite, un chien", False),
        ("un perro a la izquierda", False),
        ("el lado derecho", False),
        ("a sinistra un cane", False),
        ("собака слева.", False),
        ("左边有一只狗", False),
        ("右手を上げる", False),
        ("a bright upright copyright", True),
        ("un droitier adroit", True),
        ("a prawn in a linen shirt", True),
    ],
)
def test_a_mirrored_picture_keeps_the_captions_that_name_no_side(caption, stays):
    picture = Picture("a", (caption, "a dog"), bytes, "here", "a")
    assert picture.mirror().captions == ((caption, "a dog") if stays else ("a dog",))


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_no_picture(folder, kind):
    """A pipe would be waited for, and a device read without end."""
    path = folder / "images/a.png"
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    (picture,) = read_pictures(table(folder, ("image", "caption"), ("images/a.png", "a dog")), "train", fields=FIELDS)
    with pytest.raises(UserError, match=r"table.tsv:2: picture .* is not a file$"):
        picture.read()


def test_a_table_with_a_header_alone_has_no_pictures(folder):
    with pytest.raises(UserError, match=r"table\.tsv: split 'train' has no pictures"):
        read_pictures(table(folder, ("image", "caption")), "train", fields=FIELDS)


@pytest.mark.parametrize(
    "source", ["", "toy", "toy:", "toy:digits", "tsv", "tsv:", "tfds:", "csv:a.csv", "a.tsv", "/a"]
)
def test_an_unknown_source_is_named(source):
    message = f"data.source {source!r} is not one of toy:shapes, tsv:<file> or tfds:<name>"
    with pytest.raises(UserError, match=re.escape(message)):
        read_pictures(source, "train", fields=FIELDS)


@pytest.mark.parametrize("source", ["toy:shapes", "tsv:table.tsv"])
def test_an_unknown_field_is_named(source):
    with pytest.raises(UserError, match=r"data\.fields names image, caption and split, not 'captoin'"):
        read_pictures(source, "train", fields=FIELDS | {"captoin": "text"}, count=1)


# --- toy


def test_toy_gives_what_the_generator_makes():
    pictures = read_pictures("toy:shapes", "dev", fields={}, count=5, size=40, seed=3)
    examples = list(toy.shapes("dev", 5, size=40, seed=3))
    assert said(pictures) == [(e["id"], tuple(e["captions"])) for e in examples]
    assert [picture.read() for picture in pictures] == [e["image"] for e in examples]
    for picture, example in zip(pictures, examples, strict=True):
        np.testing.assert_array_equal(picture.boxes, example["boxes"])
        assert picture.where == f"toy:shapes {picture.id}"


def test_toy_fingerprints_depend_on_all_that_the_picture_depends_on():
    def fingerprints(split="train", **changes):
        pictures = read_pictures("toy:shapes", split, fields={}, **{"count": 2, "size": 32, "seed": 0} | changes)
        return [picture.fingerprint for picture in pictures]

    assert fingerprints() == fingerprints(count=3)[:2]
    seen = fingerprints() + fingerprints(size=33) + fingerprints(seed=1) + fingerprints("dev")
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("split, count, expected", [("train", 0, 7), ("dev", 0, 4), ("train", 2, 2), ("train", 9, 9)])
def test_toy_without_a_count_has_its_own(monkeypatch, split, count, expected):
    monkeypatch.setattr("kseq.data.pictures.TOY_COUNT", {"train": 7, "dev": 4})
    assert len(read_pictures("toy:shapes", split, fields={}, count=count, size=32)) == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "valid"}, "toy:shapes: split must be one of ('train', 'dev', 'test'), got 'valid'"),
        ({"size": 31}, "toy:shapes: size must be at least 32, got 31"),
        ({"seed": -1}, "toy:shapes: seed must be at least 0, got -1"),
    ],
)
def test_toy_errors_are_for_the_user(arguments, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_pictures("toy:shapes", **{"split": "train", "fields": {}} | arguments)


# --- TensorFlow Datasets


def encoded(i):
    file = io.BytesIO()
    Image.new("RGB", (4 + i, 3), (i, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def builder():
    """A dataset as TFDS' own are written, with the features of `coco_captions` and some others; registered by name."""

    class KseqPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            text, number = tfds.features.Text(), np.int64
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "captions": tfds.features.Sequence({"id": number, "text": text}),
                "some": tfds.features.Sequence(text),
                "two": tfds.features.Sequence(text, length=2),
                "inner": {"one": text},
                "number": number,
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "numbers": tfds.features.Tensor(shape=(2, 2), dtype=np.uint8),
                "none": tfds.features.Sequence(text),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(3), "validation": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                yield (
                    i,
                    {
                        "image": io.BytesIO(encoded(i)),
                        "captions": [{"id": j, "text": f"café {i} {j}"} for j in range(i + 1)],
                        "some": [f"some {i}"],
                        "two": [f"two {i}", "more"],
                        "inner": {"one": f"one {i}"},
                        "number": i,
                        "label": "dog",
                        "numbers": np.zeros((2, 2), np.uint8),
                        "none": [],
                    },
                )

    return KseqPictures


@pytest.fixture(scope="module")
def prepared(builder, tmp_path_factory):
    """The folder with the dataset, prepared by kseq itself."""
    folder = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
        read_tfds("train")
    return folder


@pytest.fixture
def data_dir(prepared, builder, monkeypatch):
    """Makes TFDS read `prepared`, and fail where it would prepare it again."""
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared))
    monkeypatch.setattr(builder, "_split_generators", None)


def read_tfds(split="train", *, image="image", caption="captions/text", **more):
    return read_pictures("tfds:kseq_pictures", split, fields={"image": image, "caption": caption}, **more)


def test_a_dataset_of_tfds_is_prepared_and_read(data_dir):
    """Each row is told by its number: the pictures and the captions must be those of one row. TFDS shuffles rows."""
    pictures = read_tfds()
    assert [picture.id for picture in pictures] == ["train-000000", "train-000001", "train-000002"]
    assert [picture.where for picture in pictures] == [f"tfds:kseq_pictures train[{i}]" for i in range(3)]
    rows = [int(picture.captions[0].split()[1]) for picture in pictures]
    assert sorted(rows) == [0, 1, 2]
    for row, picture in zip(rows, pictures, strict=True):
        assert picture.captions == tuple(f"café {row} {j}" for j in range(row + 1))
        assert picture.read() == encoded(row)
    assert len(read_tfds("validation")) == 2
    assert [picture.id for picture in read_tfds("train[1:]")] == ["train[1:]-000000", "train[1:]-000001"]
    assert len(read_tfds(count=1)) == 1


def test_fingerprints_of_tfds_hold_the_version_and_the_split(data_dir):
    fingerprints = [picture.fingerprint for split in ("train", "validation") for picture in read_tfds(split)]
    assert fingerprints == [picture.fingerprint for split in ("train", "validation") for picture in read_tfds(split)]
    assert len(set(fingerprints)) == 5
    assert all("kseq_pictures" in text and "1.2.3" in text for text in fingerprints)


@pytest.mark.parametrize(
    "caption, expected",
    [("some", ("some {}",)), ("two", ("two {}", "more")), ("inner/one", ("one {}",))],
)
def test_captions_may_be_one_text_or_a_list_at_any_path(data_dir, caption, expected):
    for picture in read_tfds(caption=caption):
        number = next(i for i in range(3) if encoded(i) == picture.read())
        assert picture.captions == tuple(text.format(number) for text in expected)


@pytest.mark.parametrize("caption", ["absent", "captions/absent", "some/text", "inner/one/more", "", "/"])
def test_a_caption_feature_that_is_not_there_is_named(data_dir, caption):
    message = f"tfds:kseq_pictures train[0]: there is no field {caption!r}; it has "
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_tfds(caption=caption)
    assert "captions, image, inner" in str(caught.value) and str(caught.value).endswith("Set data.fields.caption")


@pytest.mark.parametrize("caption", ["number", "label", "numbers", "image", "captions", "captions/id", "inner", "none"])
def test_a_caption_feature_that_is_no_text_is_an_error(data_dir, caption):
    with pytest.raises(UserError, match=rf"train\[0\]: {caption!r} is not a text or a list of texts"):
        read_tfds(caption=caption)


@pytest.mark.parametrize("image", ["absent", "some", "number", "numbers", "captions", "inner/one"])
def test_an_image_feature_that_is_no_picture_is_named(data_dir, image):
    with pytest.raises(UserError, match=f"tfds:kseq_pictures.*there is no picture {image!r}; the features are image, "):
        read_tfds(image=image, caption="some")


def test_an_unknown_split_of_tfds_is_named(data_dir):
    message = r"tfds:kseq_pictures, split 'dev': ValueError: Unknown split 'dev'. Should be one of \['train', 'valid"
    with pytest.raises(UserError, match=message):
        read_tfds("dev")


def test_tfrecord_files_are_read_as_array_record_files_are(builder, tmp_path, monkeypatch):
    """`tfds.load` and `tfds build` prepare as TFRecord."""
    found = {}
    for form in ("array_record", "tfrecord"):
        builder(data_dir=str(tmp_path / form), file_format=form).download_and_prepare()
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / form))
        splits = ("train", "validation", "train[1:]", "train[:-1]+validation[1:]")
        found[form] = [sorted((p.captions, p.read()) for p in read_tfds(split)) for split in splits]
        rows = [
            row for _, row in kseq.data.read("tfds:kseq_pictures", "train", {"text": "inner/one", "label": "label"})
        ]
        assert sorted(row["text"] for row in rows) == ["one 0", "one 1", "one 2"]
        assert {row["label"] for row in rows} == {"dog"}
    assert [len(part) for part in found["tfrecord"]] == [3, 2, 2, 3] and list(tmp_path.rglob("*.tfrecord*"))
    assert found["tfrecord"] == found["array_record"]


@pytest.mark.slow
def test_a_dataset_of_ones_own_is_read_from_its_files_alone(builder, tmp_path, monkeypatch):
    """As another process does, which has not imported the builder."""
    builder(data_dir=str(tmp_path)).download_and_prepare()
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    monkeypatch.delitem(tfds.core.registered._DATASET_REGISTRY, "kseq_pictures")
    assert [len(read_tfds(split)) for split in ("train", "validation")] == [3, 2]


def test_a_tfrecord_file_that_is_cut_off_is_named(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    builder().download_and_prepare()
    (path,) = tmp_path.rglob("*train.tfrecord*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"train.tfrecord-00000-of-00001 is cut off after 1 records; prepare it anew"):
        read_tfds()


def test_an_unknown_dataset_of_tfds_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"tfds:kseq_nothing: there is no such dataset"):
        read_pictures("tfds:kseq_nothing", "train", fields=FIELDS)


def coco_rows(self, split, decoders=None, **kwargs):
    """Rows as TFDS itself would give them, through the features of the dataset and back."""
    features = self.info.features

    def row(i):
        example = {
            "image": np.full((5, 4, 3), 40 * i, np.uint8),
            "image/filename": f"{i}.jpg",
            "image/id": i,
            "captions": [{"id": j, "text": f"{split} {i} {j}"} for j in range(i + 1)],
            "objects": [],
        }
        return features.deserialize_example_np(features.serialize_example(example), decoders=decoders)

    return [row(i) for i in range(3)]


def test_coco_captions_has_the_features_that_its_card_names(tmp_path):
    """`mock_data` cannot make up rows itself: its random boxes have no area, and TFDS refuses to encode them."""
    with tfds.testing.mock_data(as_data_source_fn=coco_rows, data_dir=str(tmp_path)):
        pictures = read_pictures("tfds:coco_captions", "val", fields={"image": "image", "caption": "captions/text"})
    assert [p.captions for p in pictures] == [tuple(f"val {i} {j}" for j in range(i + 1)) for i in range(3)]
    for i, picture in enumerate(pictures):
        pixels = np.asarray(Image.open(io.BytesIO(picture.read())), int)  # a JPEG of one colour
        assert pixels.shape == (5, 4, 3) and abs(pixels - 40 * i).max() <= 1

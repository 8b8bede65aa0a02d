"""Tests of picture files to pixels, against Pillow."""

import dataclasses
import functools
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kseq.data import Picture
from kseq.errors import UserError
from kseq.preprocessors import ImagePreprocessor
from kseq.preprocessors import image as image_module
from kseq.preprocessors.image import CUT_OFF, DAMAGED, NO_SIZE, NOT_A_PICTURE, TOO_MUCH

SIDE = 8
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
GRAY_ALPHA = RNG.integers(0, 256, (SIDE, SIDE, 2), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
GRAY_16 = RNG.integers(0, 2**16, (SIDE, SIDE), dtype=np.uint16)
RGB_16 = RNG.integers(0, 2**16, (SIDE, SIDE, 3), dtype=np.uint16)
PALETTE = Image.fromarray(RGB).quantize(16)
SHADES = bytes(range(0, 256, 17))  # how opaque each colour of the palette is
SMOOTH = np.linspace(0, 255, 3 * SIDE**2).reshape(SIDE, SIDE, 3).astype(np.uint8)


def saved(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def over_white(image):
    """Alpha in plain words: so much of the picture, and white for the rest."""
    pixels = np.asarray(image.convert("RGBA"), float)
    alpha = pixels[..., 3:] / 255
    return np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha))


def picture(data, where="table.tsv:2", name="a.png"):
    return Picture(name, ("a dog",), lambda: data, where, name)


@functools.cache
def preprocessor(size=SIDE):
    return ImagePreprocessor(size)  # once, for each traces a graph


def decoded(data):
    (pixels,) = preprocessor().decode([picture(data)])
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize(
    "image, kind, options",
    [
        (RGB, "PNG", {}),
        (RGB, "BMP", {}),
        (GRAY, "PNG", {}),
        (GRAY > 127, "PNG", {}),
        (GRAY, "BMP", {}),
        (PALETTE, "PNG", {}),
        (PALETTE, "GIF", {}),
        (GRAY_ALPHA, "PNG", {}),
        (RGBA, "PNG", {}),
        (PALETTE, "PNG", {"transparency": 3}),
        (PALETTE, "PNG", {"transparency": SHADES}),
    ],
    ids=[
        "rgb-png",
        "rgb-bmp",
        "gray-png",
        "1-bit-png",
        "gray-bmp",
        "palette-png",
        "gif",
        "gray-alpha-png",
        "rgba-png",
        "palette-clear-png",
        "palette-alpha-png",
    ],
)
def test_lossless_files_are_exact(image, kind, options):
    """Where the picture has the side that is asked for, nothing is resized."""
    data = saved(image, kind, **options)
    np.testing.assert_array_equal(decoded(data), over_white(opened(data)))


def test_what_is_clear_is_white_and_what_is_half_clear_is_half_white():
    image = np.zeros((SIDE, SIDE, 4), np.uint8)
    image[..., 0] = 200
    image[:, 2:4, 3] = 128
    image[:, 4:, 3] = 255
    pixels = decoded(saved(image, "PNG"))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 2].tolist() == [227, 127, 127]  # 200·128/255 + 127
    assert pixels[0, 4].tolist() == [200, 0, 0]


@pytest.mark.parametrize("image", [GRAY_16, RGB_16], ids=["gray", "rgb"])
def test_of_16_bits_the_upper_8_stay(image):
    data = tf.io.encode_png(image.reshape(SIDE, SIDE, -1)).numpy()  # Pillow writes no colours of 16 bits
    expected = np.broadcast_to((image >> 8).reshape(SIDE, SIDE, -1), (SIDE, SIDE, 3))
    np.testing.assert_array_equal(decoded(data), expected)


@pytest.mark.parametrize(
    "mode, options",
    [("RGB", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0}), ("L", {}), ("CMYK", {})],
)
def test_jpeg_is_near_what_pillow_makes_of_it(mode, options):
    """TensorFlow's inverse DCT is the fast one, which is off by a few levels, by ten where the quality is 95."""
    data = saved(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=85, **options)
    difference = np.abs(decoded(data).astype(int) - np.asarray(opened(data).convert("RGB"), int))
    assert difference.max() <= 5 and difference.mean() < 1.5


def with_orientation(image, value, order="II", **options):
    """A JPEG file with EXIF data of either byte order, other tags before and after the one that counts."""
    exif = Image.Exif()
    exif.endian = {"II": "<", "MM": ">"}[order]
    exif[0x010F], exif[0x0112], exif[0x0131] = "kseq", value, "a program"
    data = exif.tobytes()
    assert data[6:8] == order.encode()
    return saved(image, "JPEG", exif=data, subsampling=0, quality=95, **options)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("value", range(10))
def test_a_jpeg_is_turned_as_exif_says(value, order):
    """Oracle: Pillow's exif_transpose; 0 and 9 mean nothing."""
    data = with_orientation(SMOOTH, value, order)
    expected = np.asarray(ImageOps.exif_transpose(opened(data)).convert("RGB"), int)
    assert np.abs(decoded(data).astype(int) - expected).max() <= 10
    if 2 <= value <= 8:
        assert np.abs(decoded(data).astype(int) - np.asarray(opened(data), int)).max() > 30


def test_a_picture_that_is_not_square_is_turned_whole():
    image = np.zeros((40, 20, 3), np.uint8)
    image[:20] = (200, 0, 0)
    pixels = decoded(with_orientation(image, 6)).astype(int)  # what lies on its side has its top on the right
    assert np.abs(pixels[:, SIDE // 2 + 1 :] - (200, 0, 0)).max() < 20 and pixels[:, : SIDE // 2 - 1].max() < 20


@pytest.mark.parametrize("cut", [0, 6, 9, 13, 17, 20])
def test_damaged_exif_data_are_passed_over(cut):
    """The offset of the directory, its length and its entries are overwritten from `cut` on."""
    data = bytearray(with_orientation(SMOOTH, 6))
    start = data.index(b"Exif") + 6 + cut
    data[start : start + 8] = b"\xff" * 8
    plain = decoded(saved(SMOOTH, "JPEG", subsampling=0, quality=95)).astype(int)
    turned = decoded(with_orientation(SMOOTH, 6)).astype(int)
    found = decoded(bytes(data)).astype(int)
    assert min(np.abs(found - plain).max(), np.abs(found - turned).max()) == 0


def test_of_an_animated_gif_the_first_picture_is_taken():
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "lime")]
    pixels = decoded(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(pixels, np.full((SIDE, SIDE, 3), (255, 0, 0)))


def test_of_an_animated_gif_only_the_first_frame_is_decoded():
    """The frames behind it are as good as they are bad: cut off, they change nothing."""
    frames = [Image.fromarray(RGB).quantize(16), PALETTE.rotate(90), Image.new("P", (SIDE, SIDE))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c" * 700)
    np.testing.assert_array_equal(decoded(data), decoded(data[:-40] + b"\xff" * 40))
    np.testing.assert_array_equal(decoded(data), np.asarray(opened(data).convert("RGB")))


@pytest.mark.slow
def test_an_animated_webp_is_refused_and_nothing_else_happens():
    """TensorFlow's decoder corrupts the heap over it, which ends the process."""
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_A_PICTURE):
        preprocessor().features(tf.constant([data]))
    with pytest.raises(UserError, match=r"picture a\.png cannot be decoded as JPEG, PNG, GIF or BMP"):
        preprocessor().decode([picture(data)])


def png_header(width, height):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))


def jpeg_of(width, height, fill=b""):
    """A small JPEG whose header says another size."""
    data = saved(RGB, "JPEG")
    at = data.index(b"\xff\xc0")
    return data[:2] + fill + data[2 : at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def gif_of(screen, frame):
    """Small GIF whose screen and first frame say another size."""
    data = bytearray(saved(PALETTE, "GIF"))
    at = data.index(b"\x2c", 13 + 3 * 2 ** (data[10] % 8 + 1))
    data[6:10], data[at + 5 : at + 9] = struct.pack("<HH", *screen), struct.pack("<HH", *frame)
    return bytes(data)


@pytest.mark.parametrize(
    "data, pixels",
    [
        (png_header(20_000, 20_000), 400_000_000),
        (png_header(2**31 - 1, 2**31 - 1), (2**31 - 1) ** 2),
        (jpeg_of(30_000, 20_000), 600_000_000),
        (jpeg_of(30_000, 20_000, b"\xff\xe0\x00\x06abcd\x00\x01junk\xff\xff"), 600_000_000),
        (gif_of((65_535, 65_535), (8, 8)), 65_535**2),
        (gif_of((8, 8), (65_535, 65_535)), 65_535**2),
        (b"BM" + bytes(16) + struct.pack("<ii", 20_000, -20_000) + bytes(100), 400_000_000),
    ],
    ids=["png", "png-largest", "jpeg", "jpeg-garbage", "gif-screen", "gif-frame", "bmp"],
)
def test_a_giant_is_refused_by_its_header(data, pixels):
    message = f"The picture has {pixels} pixels, and at most 67108864 are decoded"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        preprocessor().features(tf.constant([data]))
    with pytest.raises(UserError, match=rf"cannot be decoded as JPEG, PNG, GIF or BMP \({message}\); replace or"):
        preprocessor().decode([picture(data)])


def test_clear_pixels_of_a_gif_are_black():
    """TensorFlow gives a GIF no alpha. A limit, and not a wish."""
    data = saved(PALETTE, "GIF", transparency=3)
    clear = np.asarray(opened(data).convert("RGBA"))[..., 3] == 0
    assert clear.any()
    expected = np.where(clear[..., None], 0, np.asarray(opened(data).convert("RGB")))
    np.testing.assert_array_equal(decoded(data), expected)


@pytest.mark.parametrize(
    "image, colour", [(RGB, tuple(RGB[0, 0].tolist())), (GRAY, int(GRAY[0, 0]))], ids=["rgb", "gray"]
)
def test_a_colour_that_a_png_calls_clear_stays(image, colour):
    """TensorFlow reads such a file without its alpha. A limit, and not a wish."""
    data = saved(image, "PNG", transparency=colour)
    assert (np.asarray(opened(data).convert("RGBA"))[..., 3] == 0).any()
    np.testing.assert_array_equal(decoded(data), np.broadcast_to(image.reshape(SIDE, SIDE, -1), (SIDE, SIDE, 3)))


def test_the_fourth_channel_of_a_bmp_is_taken_for_alpha():
    """Some programs write zeros there and mean nothing by it: white. Pillow passes over it. A limit, and not a wish."""
    np.testing.assert_array_equal(decoded(saved(RGBA, "BMP")), over_white(Image.fromarray(RGBA)))
    assert np.all(decoded(saved(np.dstack([RGB, 0 * GRAY]), "BMP")) == 255)


def test_a_bmp_with_a_palette_shows_the_numbers_of_its_colours():
    """TensorFlow passes over the palette. A limit, and not a wish."""
    expected = np.repeat(np.asarray(PALETTE)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decoded(saved(PALETTE, "BMP")), expected)


@pytest.mark.parametrize("width, height", [(1, 1), (1, 9), (300, 1), (3, 5), (40, 30), (4000, 3000)])
def test_one_colour_stays_one_colour_at_any_size(width, height):
    pixels = decoded(saved(Image.new("RGB", (width, height), (7, 80, 200)), "PNG"))
    np.testing.assert_array_equal(pixels, np.full((SIDE, SIDE, 3), (7, 80, 200)))


@pytest.mark.parametrize("width, height", [(16, 16), (24, 32), (5, 6), (31, 7)])
def test_resizing_is_near_what_pillow_makes_of_it(width, height):
    """Both weigh by a triangle as wide as a pixel of the smaller grid; Pillow rounds between the two directions."""
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR), int)
    assert np.abs(decoded(saved(image, "PNG")).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("pixels", [2**20, 3000, 1])
def test_a_picture_that_is_resized_in_bands_is_that_of_tensorflow(pixels, monkeypatch):
    """Oracle: `tf.image.resize` of the whole picture, laid over white."""
    monkeypatch.setattr(image_module, "_BAND", pixels)
    resized = tf.function(
        preprocessor()._resized, input_signature=[tf.TensorSpec([None, None, None], tf.uint8)], autograph=False
    )
    for shape in ((8, 8, 3), (100, 70, 4), (301, 7, 1), (7, 301, 2), (1, 500, 3), (500, 1, 4), (3, 5, 3)):
        image = RNG.integers(0, 256, shape, dtype=np.uint8)
        whole = image.astype("float32")
        if shape[2] % 2 == 0:
            whole = whole[..., :-1] * (whole[..., -1:] / 255) + 255 - whole[..., -1:]
        expected = tf.image.resize(whole, (SIDE, SIDE), antialias=True)
        np.testing.assert_allclose(resized(image), expected, atol=2e-3)


def mixed_batch():
    sizes = [(8, 8), (3, 5), (40, 30), (1, 1)]
    images = [Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    kinds = [("PNG", "RGB"), ("GIF", "L"), ("JPEG", "L"), ("PNG", "RGBA")]
    return [saved(image.convert(mode), kind) for image, (kind, mode) in zip(images, kinds, strict=True)]


def test_a_row_of_a_mixed_batch_is_the_batch_of_that_one():
    batch = mixed_batch()
    pixels = preprocessor().decode([picture(data) for data in batch])
    assert pixels.shape == (4, SIDE, SIDE, 3)
    for data, row in zip(batch, pixels, strict=True):
        np.testing.assert_array_equal(row, decoded(data))


@pytest.mark.slow
def test_features_are_whole_numbers_and_what_decode_gives():
    batch = mixed_batch()
    features = preprocessor().features(tf.constant(batch)).numpy()
    assert features.dtype == np.float32 and features.shape == (4, SIDE, SIDE, 3)
    assert features.min() >= 0 and features.max() <= 255
    np.testing.assert_array_equal(features, preprocessor().decode([picture(data) for data in batch]))


@pytest.mark.parametrize("size", [1, 13])
def test_size_is_the_side(size):
    batch = tf.constant(mixed_batch())
    assert ImagePreprocessor(size).features(batch).shape == (4, size, size, 3)


@pytest.mark.slow
def test_the_graph_and_the_saved_model_give_what_python_gives(tmp_path):
    batch = tf.constant([*mixed_batch(), with_orientation(SMOOTH, 6)])
    features = preprocessor().features(batch)
    module = tf.Module()
    module.image = preprocessor()
    module.features = tf.function(
        preprocessor().features, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    np.testing.assert_array_equal(module.features(batch), features)
    tf.saved_model.save(module, str(tmp_path / "model"))
    restored = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(restored.features(batch), features)
    np.testing.assert_array_equal(restored.features(batch[:1]), features[:1])
    assert np.abs(features[-1] - np.asarray(ImageOps.exif_transpose(opened(batch[-1].numpy())), int)).max() <= 10
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_A_PICTURE):
        restored.features(tf.constant([saved(RGB, "WEBP")]))


JPEG = saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
PNG = saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", NOT_A_PICTURE),
        (b"A text, and no picture.\n", NOT_A_PICTURE),
        (bytes(100), NOT_A_PICTURE),
        (saved(RGB, "TIFF"), NOT_A_PICTURE),
        (JPEG[: len(JPEG) // 2], "Invalid JPEG data"),
        (JPEG[:30], NO_SIZE),
        (PNG[: len(PNG) // 2], "Invalid PNG"),
        (PNG[:20], NO_SIZE),
        (PNG[:200] + b"\x00\xff" * 20 + PNG[240:], "Invalid PNG"),
        (saved(RGB, "BMP")[:100], "Input size should match"),
        (saved(GRAY, "GIF")[:40], "Invalid GIF data"),
        (saved(GRAY > 127, "BMP"), "Number of channels"),
    ],
    ids=[
        "empty",
        "text",
        "zeros",
        "tiff",
        "jpeg-half",
        "jpeg-head",
        "png-half",
        "png-head",
        "png-damaged",
        "bmp-cut",
        "gif-cut",
        "bmp-1-bit",
    ],
)
def test_a_file_that_is_no_picture_is_named_with_the_reason(data, reason):
    with pytest.raises(UserError) as caught:
        preprocessor().decode([picture(data, where="table.tsv:17", name="images/x.png")])
    message = str(caught.value)
    assert message.startswith("table.tsv:17: picture images/x.png cannot be decoded as JPEG, PNG, GIF or BMP (")
    assert re.search(rf"\([^()]*{reason}", message, re.IGNORECASE)
    assert message.endswith("replace or remove it, or leave such pictures out with --set data.on_error=skip")
    assert len(message) < 400 and "\n" not in message


def test_a_bad_file_in_a_batch_is_an_error():
    with pytest.raises(UserError, match="cannot be decoded"):
        preprocessor().decode([picture(PNG), picture(b"")])


def test_an_error_of_reading_comes_out_as_it_is():
    def read():
        raise UserError("table.tsv:2: picture a.png cannot be read: No such file or directory")

    with pytest.raises(UserError, match="cannot be read: No such file"):
        preprocessor().decode([Picture("a.png", ("a dog",), read, "table.tsv:2", "a.png")])


@pytest.mark.parametrize("data", [b"", b"A text", JPEG[:300]], ids=["empty", "text", "jpeg"])
def test_features_of_what_is_no_picture_are_an_error_of_tensorflow(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocessor().features(tf.constant([data]))


def test_a_mirrored_picture_has_left_and_right_exchanged():
    """Oracle: the pixels of the picture itself, in the order from right to left; the other picture stays."""
    one = dataclasses.replace(picture(saved(RGB, "PNG")), boxes=np.array([[0.1, 0.2, 0.5, 0.6]], "float32"))
    other = one.mirror()
    plain, mirrored, again = preprocessor().decode([one, other, one])
    np.testing.assert_array_equal(plain, RGB)
    np.testing.assert_array_equal(again, plain)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    np.testing.assert_allclose(other.boxes, [[0.1, 0.4, 0.5, 0.8]], rtol=1e-6)
    assert other.fingerprint != one.fingerprint and (other.id, other.captions) == (one.id, one.captions)
    np.testing.assert_allclose(other.mirror().boxes, one.boxes, rtol=1e-6)
    assert not other.mirror().mirrored


# --- any string, without an error


@functools.cache
@functools.cache
def reading(**limits):
    """`readable` as a graph."""
    read = functools.partial(preprocessor().readable, **{"max_bytes": 10**6} | limits)
    return tf.function(read, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def read_any(files, **limits):
    pixels, said = reading(**limits)(tf.constant(files, tf.string))
    assert pixels.shape == (len(files), SIDE, SIDE, 3)
    return pixels.numpy(), [x.decode() for x in said.numpy()]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", NOT_A_PICTURE),
        (b"A text, and no picture.\n", NOT_A_PICTURE),
        (saved(RGB, "WEBP"), NOT_A_PICTURE),
        (png_header(9_000, 9_000), "The picture has 81000000 pixels, and at most 67108864 are decoded"),
        (jpeg_of(30_000, 20_000), "The picture has 600000000 pixels, and at most 67108864 are decoded"),
        (JPEG[:30], NO_SIZE),
        (JPEG[: len(JPEG) // 2], CUT_OFF),
        (PNG[: len(PNG) // 2], CUT_OFF),
        (saved(RGB, "BMP")[:100], CUT_OFF),
        (PNG[:200] + b"\x00\xff" * 20 + PNG[240:], DAMAGED),
        (saved(GRAY, "GIF")[:40], CUT_OFF),
        (saved(GRAY > 127, "BMP"), DAMAGED),
        (bytes(10**6 + 1), "The file has 1000001 bytes, and at most 1000000 are read"),
    ],
    ids=[
        "empty",
        "text",
        "webp",
        "png-giant",
        "jpeg-giant",
        "head",
        "jpeg",
        "png",
        "bmp",
        "png-damaged",
        "gif",
        "bmp-1-bit",
        "large",
    ],
)
def test_what_cannot_be_read_is_told_and_spoils_no_other(data, reason):
    """Oracle for the others: `features`, which raises where there is a bad one."""
    good = mixed_batch()
    pixels, said = read_any([good[0], data, *good[1:], data])
    assert said == ["", reason, "", "", "", reason]
    np.testing.assert_array_equal(pixels[[0, 2, 3, 4]], preprocessor().features(tf.constant(good)))
    assert not np.any(pixels[[1, 5]])


def test_the_limits_of_a_picture_are_those_that_are_given():
    data = saved(RGB, "PNG")

    def said(max_bytes=10**6, max_pixels=SIDE**2):
        [reason] = preprocessor().readable([data], max_bytes=max_bytes, max_pixels=max_pixels)[1].numpy()
        return reason.decode()

    assert said(max_bytes=len(data)) == ""
    assert said(max_pixels=63) == "The picture has 64 pixels, and at most 63 are decoded"
    assert "bytes" in said(max_bytes=len(data) - 1)
    assert read_any([])[1] == []


def test_a_jpeg_of_a_hundred_scans_is_refused():
    """Each scan goes over all pixels, so that a small file could take minutes. Oracle: a count of the markers."""
    data = saved(Image.fromarray(SMOOTH), "JPEG", progressive=True)
    few, last = data.count(b"\xff\xda"), data.rindex(b"\xff\xda")
    again = data[:last] + data[last:-2] * (101 - few) + data[-2:]
    assert read_any([again])[1] == [""]
    more = data[:last] + data[last:-2] * (102 - few) + data[-2:]
    assert read_any([more])[1] == ["The picture has 101 scans, and at most 100 are decoded"]


def chunk(name, content):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_png_with_more_data_than_its_pixels_can_need_is_refused():
    """They would be unpacked. A pixel needs 9 bytes at most: 4 channels of 16 bits, and one for its line."""
    lines = zlib.compress(bytes(9 * 8))
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    most = 9 * 8 * 8 + 2**16 - 12  # of the content of the chunk
    for size, reason in ((most, ""), (most + 1, TOO_MUCH)):
        data = header + chunk(b"IDAT", lines + bytes(size - len(lines))) + chunk(b"IEND", b"")
        assert read_any([data])[1] == [reason]
        apart = chunk(b"IDAT", lines[:5]) + chunk(b"IDAT", lines[5:] + bytes(size - len(lines) - 12))
        assert read_any([header + apart + chunk(b"IEND", b"")])[1] == [reason]
    with pytest.raises(UserError, match=TOO_MUCH):
        decoded(data)


@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": SHADES}])
def test_the_texts_of_a_png_do_not_reach_the_decoder(options):
    """It would unpack them, gigabytes in some hundred kilobytes. The palette and what is clear in it stay."""
    plain = saved(PALETTE, "PNG", **options)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**6)))
    first, last = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    data = plain[:33] + text + plain[33:first] + text + plain[first:last] + text + plain[last:]
    alone, _, said = image_module._checked(tf.constant(data), 64)
    assert alone.numpy() == plain and said.numpy() == b""
    np.testing.assert_array_equal(decoded(data), over_white(opened(plain)))


def growth(action):
    """MB that the process has at most while something is done, above what it had before."""

    def size(key):
        return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = size("VmRSS")
    action()
    return size("VmHWM") - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the memory from /proc, as Linux has it")
@pytest.mark.parametrize(
    ("size", "mode", "kind", "options"),
    [
        ((5000, 5000), "RGBA", "PNG", {"compress_level": 1}),
        ((1_000_000, 25), "RGBA", "PNG", {"compress_level": 1}),
        ((25, 1_000_000), "RGBA", "PNG", {"compress_level": 1}),
        ((5000, 5000), "CMYK", "JPEG", {"progressive": True}),
    ],
)
def test_the_largest_picture_takes_less_than_300_mb(size, mode, kind, options):
    """25 million pixels are the default of serving.max_pixels."""
    read = tf.function(lambda x: preprocessor(64).readable(x, max_bytes=10**8, max_pixels=25_000_000), autograph=False)
    read(tf.constant([saved(RGB, "PNG")]))
    data = saved(Image.new(mode, size, "red"), kind, **options)
    assert growth(lambda: read(tf.constant([data]))) < 300


def test_random_damage_never_raises():
    """And what is read all the same is what `features` makes of it."""
    chance, files = np.random.default_rng(0), []
    for data in (PNG, JPEG, saved(PALETTE, "GIF"), saved(RGB, "BMP")):
        for _ in range(25):
            damaged = bytearray(data)
            for at in chance.integers(0, len(data) if chance.random() < 0.5 else 60, 4):
                damaged[at] ^= 1 << int(chance.integers(8))
            files.append(bytes(damaged[: chance.integers(10, len(data))] if chance.random() < 0.3 else damaged))
    pixels, said = read_any(files)
    assert 20 < said.count("") < 80
    for data, row, reason in zip(files, pixels, said, strict=True):
        if not reason:
            np.testing.assert_array_equal(row, decoded(data))

"""Picture files to pixels; the same graph in training and in the SavedModel."""

import tensorflow as tf

from kseq.errors import UserError
from kseq.preprocessors.binary import PADDING, broken, number, padded, refusal, required

FORMATS = "JPEG, PNG, GIF or BMP"
MAX_PIXELS = 2**26  # of one picture; decoding takes 4 bytes a pixel, and up to 11 for a progressive JPEG
MAX_SCANS = 100  # of a progressive JPEG, each of which goes over all pixels; programs write 10 or so
# What `ImagePreprocessor.features` says of a string that it refuses, after "assertion failed: ".
NOT_A_PICTURE = f"The first bytes are not those of a {FORMATS} file"
NO_SIZE = "The file does not say how large the picture is"
TOO_MUCH = "The file has more data than its pixels can need"
# What `ImagePreprocessor.readable` says beside these.
DAMAGED = "The file is damaged, or a kind of picture that cannot be decoded"
CUT_OFF = "The file is cut off"

_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")  # in the order of FORMATS
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MOST_BLOCKS = 2**15  # of a file, walked through in search of a size, at 20 µs each
_BAND = 2**20  # pixels that are resized at once, as floats
_PIXEL = 9  # most bytes of a pixel of a PNG file: four channels of 16 bits, and one for its line
_PACKING = 2**16  # bytes that packed pixels may have beyond these


class ImagePreprocessor(tf.Module):
    """Bytes of a JPEG, PNG, GIF or BMP file to pixels 0…255, the whole picture stretched to a square.

    The first bytes of a file say what it is; other formats never reach a decoder. A picture of more than `MAX_PIXELS`
    is refused before it is decoded. JPEG pictures are turned upright as their EXIF orientation says, and of an animated
    GIF the first frame is taken. One channel becomes three, 16 bits become 8, and transparent pixels are laid over
    white.

    Args:
        size: side of the square, in pixels.
    """

    def __init__(self, size):
        super().__init__()
        self.size = size
        signature = [tf.TensorSpec([None], tf.string)]
        self._compiled = tf.function(self.features, input_signature=signature, autograph=False)

    def features(self, encoded):
        """string `[batch]` → float32 `[batch, size, size, 3]`.

        Raises:
            tf.errors.InvalidArgumentError: a string is not a picture file (`NOT_A_PICTURE`, `NO_SIZE`, or what the
                decoder says), or the picture has more than `MAX_PIXELS` pixels ("The picture has … pixels").
        """
        pixels = tf.map_fn(self._pixels, tf.convert_to_tensor(encoded), fn_output_signature=tf.float32)
        return tf.ensure_shape(pixels, [None, self.size, self.size, 3])

    def _pixels(self, encoded):
        encoded, orientation, said = _checked(encoded, MAX_PIXELS)
        return self._square(required(encoded, said), orientation)

    def _square(self, encoded, orientation):
        """What may be decoded, string `[]`, and its orientation → float32 `[size, size, 3]`."""
        picture = tf.ensure_shape(tf.io.decode_image(encoded, expand_animations=False), [None, None, None])
        resized = self._resized(picture)
        resized = tf.cond(tf.shape(picture)[-1] <= 2, lambda: tf.repeat(resized, 3, axis=-1), lambda: resized)
        resized = _upright(resized, orientation)  # the square is turned, which is quicker than to turn the picture
        resized = tf.ensure_shape(resized, [self.size, self.size, 3])
        return tf.round(tf.clip_by_value(resized, 0.0, 255.0))  # whole numbers, so that uint8 keeps them as they are

    def _resized(self, picture):
        """uint8 `[height, width, channels]` → float32 `[size, size, 1 or 3]`, what is transparent over white.

        As `tf.image.resize(…, antialias=True)`, a band of lines after the other, so that memory does not grow by the
        floats of the whole picture. A line of the square is read from the lines of the picture that are less than
        max(height / size, 1) away from its middle.
        """
        size, shape = self.size, tf.shape(picture, tf.int64)
        height, width = shape[0], shape[1]
        lines = tf.cast(tf.clip_by_value(size * _BAND // (tf.maximum(height, size) * width), 1, size), tf.int32)
        scales = size / shape[:2]  # float64
        reach = tf.maximum(1 / scales[0], 1)

        def step(at, above):
            end = tf.minimum(at + lines, size)
            middles = (tf.cast(tf.stack([at, end - 1]), tf.float64) + 0.5) / scales[0]
            first = tf.maximum(tf.cast(tf.floor(middles[0] - reach), tf.int64), 0)
            last = tf.minimum(tf.cast(tf.math.ceil(middles[1] + reach), tf.int64), height)
            band = tf.raw_ops.ScaleAndTranslate(
                images=_over_white(picture[first:last])[None],
                size=tf.stack([end - at, size]),
                scale=tf.cast(scales, tf.float32),
                translation=tf.cast([tf.cast(first, tf.float64) * scales[0] - tf.cast(at, tf.float64), 0], tf.float32),
                kernel_type="triangle",
                antialias=True,
            )
            return end, tf.concat([above, band[0]], axis=0)

        return tf.while_loop(
            lambda at, _: at < size,
            step,
            (0, tf.zeros([0, size, tf.where(shape[2] <= 2, 1, 3)])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, size, None])),
            parallel_iterations=1,
        )[1]

    def readable(self, encoded, *, max_bytes, max_pixels=MAX_PIXELS):
        """As `features`, for strings of any kind: one that is refused spoils no other, and raises nothing.

        Pictures are decoded one after the other, so that memory is that of one.

        Args:
            encoded: string `[batch]`.
            max_bytes: of a file.
            max_pixels: of a picture, at most `MAX_PIXELS`. A larger one is not decoded.

        Returns:
            float32 `[batch, size, size, 3]`, zeros where a string is refused, and string `[batch]`: empty, or what is
            wrong with the picture.
        """

        def one(encoded):
            return self._readable(encoded, max_bytes, min(max_pixels, MAX_PIXELS))

        signature = tf.TensorSpec([self.size, self.size, 3], tf.float32), tf.TensorSpec([], tf.string)
        encoded = tf.convert_to_tensor(encoded, tf.string)
        return tf.map_fn(one, encoded, fn_output_signature=signature, parallel_iterations=1)

    def _readable(self, encoded, max_bytes, max_pixels):
        size = tf.strings.length(encoded)
        large = tf.strings.format(f"The file has {{}} bytes, and at most {max_bytes} are read", size)
        few = size <= max_bytes
        first, orientation, said = _checked(tf.where(few, encoded, ""), max_pixels)
        said = tf.where(few, said, large)
        nothing = tf.zeros([self.size, self.size, 3])

        @tf.autograph.experimental.do_not_convert
        def square(picture, orientation):
            return self._square(picture, orientation), True

        def decoded():
            # An error in a dataset can be passed over, and there is no other way to do so in a graph.
            made = tf.data.Dataset.from_tensors((first, orientation)).map(square)
            instead = tf.data.Dataset.from_tensors((nothing, False))
            return made.ignore_errors().concatenate(instead).take(1).get_single_element()

        pixels, whole = tf.cond(said == "", decoded, lambda: (nothing, tf.constant(False)))
        wrong = (said == "") & ~whole
        return pixels, tf.cond(wrong, lambda: tf.where(_is_cut_off(encoded), CUT_OFF, DAMAGED), lambda: said)

    def decode(self, pictures):
        """Pictures with `id`, `where`, `mirrored` and `read()` → uint8 `[n, size, size, 3]`.

        Raises:
            UserError: a file cannot be read or decoded; where there is one picture, the message names it.
        """
        encoded = [picture.read() for picture in pictures]
        try:
            pixels = tf.cast(self._compiled(tf.constant(encoded)), tf.uint8).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                f"{pictures[0].where}: picture {pictures[0].id} cannot be decoded as {FORMATS} ({refusal(error)}); "
                "replace or remove it, or leave such pictures out with --set data.on_error=skip"
            ) from None
        mirrored = [picture.mirrored for picture in pictures]
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels


def _over_white(pixels):
    """uint8 `[height, width, channels]` → float32, without the last of two or four channels, which says how much of the
    picture hides the white behind it.
    """

    def blended():
        alpha = tf.cast(pixels[:, :, -1:], tf.float32) / 255
        return (tf.cast(pixels[:, :, :-1], tf.float32) - 255) * alpha + 255

    return tf.cond(tf.shape(pixels)[-1] % 2 == 0, blended, lambda: tf.cast(pixels, tf.float32))


def _checked(encoded, max_pixels):
    """string `[]` → what of it may be decoded, string `[]`, its EXIF orientation, 1…8, int64 `[]`, and what is wrong
    with it, string `[]`, empty where nothing is.
    """
    kinds = tf.stack([tf.strings.substr(encoded, 0, len(first)) == first for first in _FIRST_BYTES])
    known, data = tf.reduce_any(kinds), padded(encoded)
    one, none = tf.constant(1, tf.int64), tf.constant(0, tf.int64)
    branches = [
        lambda: (encoded, *_jpeg_header(data), _scans(data), none),
        lambda: _png(encoded, data),
        lambda: (*_first_frame(encoded, data), one, none, none),
        lambda: (encoded, number(data, 18, 4, little=True) * _bmp_height(data), one, none, none),
        lambda: (encoded, none, one, none, none),
    ]
    kind = tf.where(known, tf.argmax(kinds, output_type=tf.int32), len(_FIRST_BYTES))
    first, pixels, orientation, scans, packed = tf.switch_case(kind, branches)
    many = tf.strings.format(f"The picture has {{}} pixels, and at most {max_pixels} are decoded", pixels)
    often = tf.strings.format(f"The picture has {{}} scans, and at most {MAX_SCANS} are decoded", scans)
    said = broken(
        (known, NOT_A_PICTURE),
        (pixels > 0, NO_SIZE),
        (pixels <= max_pixels, many),
        (scans <= MAX_SCANS, often),
        (packed <= _PIXEL * pixels + _PACKING, TOO_MUCH),
    )
    return first, orientation, said


def _png(encoded, data):
    """A PNG file with nothing but its header, its colours and its pixels; the number of pixels, the orientation and the
    scans; and the bytes of its packed pixels, int64 `[]` each.

    The decoder would also unpack texts, of which a small file can hold many gigabytes.
    """
    end = tf.size(data, tf.int64) - PADDING

    def step(at, palette, clear, first, last):
        behind, name = at + 12 + number(data, at, 4), number(data, at + 4, 4)
        is_data = name == int.from_bytes(b"IDAT")
        palette = tf.where(name == int.from_bytes(b"PLTE"), at, palette)
        clear = tf.where(name == int.from_bytes(b"tRNS"), at, clear)
        return behind, palette, clear, tf.where(is_data & (first == 0), at, first), tf.where(is_data, behind, last)

    zero = tf.constant(0, tf.int64)
    _, palette, clear, first, last = tf.while_loop(
        lambda at, palette, clear, first, last: (at < end) & ((first == 0) | (at == last)),
        step,
        (zero + 8, zero, zero, zero, zero),
        maximum_iterations=_MOST_BLOCKS,
    )
    # What begins at 0 is not there, and has no bytes.
    lengths = [tf.where(at > 0, 12 + number(data, at, 4), 0) for at in (palette, clear)] + [last - first]
    parts = zip((zero + 8, palette, clear, first), (zero + 25, *lengths), strict=True)
    parts = [tf.strings.substr(encoded, tf.minimum(at, end), length) for at, length in parts]
    alone = tf.strings.join([_FIRST_BYTES[1], *parts, _PNG_END])
    pixels = number(data, 16, 4) * number(data, 20, 4)
    return alone, pixels, zero + 1, zero, last - first


def _scans(data):
    """How many scans the data of a JPEG file begin, int64 `[]`: 0xFFDA, which no coded data hold."""
    return tf.math.count_nonzero((data[:-1] == 0xFF) & (data[1:] == 0xDA))


def _is_cut_off(encoded):
    """Whether the end that its kind of file has is missing, bool `[]`."""
    data = tf.io.decode_raw(encoded, tf.uint8)

    def has(mark):
        found = [data[i : tf.size(data) - (len(mark) - 1) + i] == byte for i, byte in enumerate(mark)]
        return tf.reduce_any(tf.reduce_all(tf.stack(found), axis=0))

    jpeg, png, gif, bmp = (tf.strings.substr(encoded, 0, len(first)) == first for first in _FIRST_BYTES)
    long = number(padded(encoded), 2, 4, little=True)
    no_end = (jpeg & ~has(b"\xff\xd9")) | (png & ~has(b"IEND")) | (gif & (tf.strings.substr(encoded, -1, 1) != ";"))
    return no_end | (bmp & (long > tf.size(data, tf.int64)))


def _bmp_height(data):
    """A BMP's height is negative where its first line is the top one."""
    height = number(data, 22, 4, little=True)
    return tf.where(height < 2**31, height, 2**32 - height)


def _jpeg_header(data):
    """The number of pixels of a JPEG file, 0 where it says none, and its EXIF orientation, int64 `[]` each.

    Markers are found as libjpeg finds them: anything but 0xFF is passed over, and so are 0xFF that follow each other.
    """
    end = tf.size(data, tf.int64) - PADDING

    def step(at, frame, exif):
        window = tf.cast(data[at : at + 10], tf.int64)
        first, code, high, low, *_ = tf.unstack(window, 10)
        marker, length = first == 0xFF, 256 * high + low
        is_frame = marker & (code >= 0xC0) & (code <= 0xCF) & (code != 0xC4) & (code != 0xC8) & (code != 0xCC)
        is_exif = marker & (code == 0xE1) & tf.reduce_all(window[4:] == list(b"Exif\0\0"))
        frame = tf.where(is_frame & (frame == 0), at, frame)
        exif = tf.where(is_exif & (exif == 0), at + 10, exif)
        ends = (code == 0xDA) | (code == 0xD9)  # the picture itself begins, or the file is at its end
        alone = (code <= 1) | ((code >= 0xD0) & (code <= 0xD7))
        behind = tf.where(ends, end, tf.where(alone, at + 2, at + 2 + length))
        return tf.where(marker & (code != 0xFF), behind, at + 1), frame, exif

    zero = tf.constant(0, tf.int64)
    state = (zero + 2, zero, zero)
    _, frame, exif = tf.while_loop(lambda at, *_: at < end, step, state, maximum_iterations=_MOST_BLOCKS)
    pixels = tf.where(frame > 0, number(data, frame + 5, 2) * number(data, frame + 7, 2), 0)
    return pixels, tf.cond(exif > 0, lambda: _orientation(data, exif), lambda: zero + 1)


def _orientation(data, start):
    """The orientation of the EXIF data that begin at `start`, 1…8, int64 `[]`; 1 where they say none."""
    little = number(data, start, 4) == int.from_bytes(b"II*\0")
    known = little | (number(data, start, 4) == int.from_bytes(b"MM\0*"))
    end = tf.size(data, tf.int64) - PADDING
    directory = tf.minimum(start + number(data, start + 4, 4, little), end)
    count = tf.minimum(number(data, directory, 2, little), (end - directory) // 12)
    entries = tf.reshape(data[directory + 2 : directory + 2 + 12 * count], [count, 12])
    entries = tf.cast(entries, tf.int64)
    weights = tf.where(little, tf.constant([1, 256], tf.int64), tf.constant([256, 1], tf.int64))
    tags = tf.linalg.matvec(entries[:, :2], weights)
    values = tf.boolean_mask(tf.linalg.matvec(entries[:, 8:10], weights), tags == 0x0112)
    value = tf.concat([values, [1]], axis=0)[0]
    return tf.where(known & (value >= 1) & (value <= 8), value, 1)


def _upright(picture, orientation):
    """`[size, size, channels]`, turned and mirrored so that what EXIF says of it becomes 1."""

    def turned():
        # Orientations of each kind: rows become columns; left and right, or top and bottom, are exchanged.
        transposed = tf.where(orientation >= 5, tf.transpose(picture, [1, 0, 2]), picture)
        sideways = tf.reduce_any(orientation == [2, 3, 6, 7])
        flipped = tf.where(sideways, transposed[:, ::-1], transposed)
        return tf.where(tf.reduce_any(orientation == [3, 4, 7, 8]), flipped[::-1], flipped)

    return tf.cond(orientation == 1, lambda: picture, turned)


def _first_frame(encoded, data):
    """A GIF file without the frames behind its first one, and the pixels of the larger of screen and frame.

    The decoder would read all frames, however large they say they are.
    """
    end = tf.size(data, tf.int64) - PADDING

    def table(flags):
        """Bytes of a table of colours."""
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def step(at, inside, frame, cut):
        byte, *_, flags = tf.unstack(tf.cast(data[at : at + 10], tf.int64), 10)
        is_image, is_extension = (byte == 0x2C) & ~inside, (byte == 0x21) & ~inside
        last = inside & (byte == 0)
        cut = tf.where(last & (frame > 0), at + 1, cut)
        frame = tf.where(is_image, at, frame)
        length = tf.where(inside, byte + 1, tf.where(is_image, 11 + table(flags), 2))
        at = tf.where(inside | is_image | is_extension, at + length, end)
        return at, (inside & ~last) | is_image | is_extension, frame, cut

    zero = tf.constant(0, tf.int64)
    at, _, frame, cut = tf.while_loop(
        lambda at, inside, frame, cut: (at < end) & (cut == 0),
        step,
        (13 + table(number(data, 10, 1)), tf.constant(False), zero, zero),
        maximum_iterations=_MOST_BLOCKS,
    )
    screen = number(data, 6, 2, little=True) * number(data, 8, 2, little=True)
    area = number(data, frame + 5, 2, little=True) * number(data, frame + 7, 2, little=True)
    whole = (at >= end) | (cut > 0)
    pixels = tf.where(whole, tf.maximum(screen, tf.where(frame > 0, area, 0)), 0)
    first = tf.strings.join([tf.strings.substr(encoded, zero, cut), b";"])
    return tf.where(cut > 0, first, encoded), pixels

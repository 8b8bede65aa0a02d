"""Picture files to pixels; the same graph in training and in the SavedModel."""

import tensorflow as tf

from kseq.errors import UserError
from kseq.preprocessors.binary import PADDING, number, padded, refusal, required

FORMATS = "JPEG, PNG, GIF or BMP"
MAX_PIXELS = 2**26  # of one picture; decoding takes about 25 bytes a pixel
# What `ImagePreprocessor.features` says of a string that it refuses, after "assertion failed: ".
NOT_A_PICTURE = f"The first bytes are not those of a {FORMATS} file"
NO_SIZE = "The file does not say how large the picture is"

_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")  # in the order of FORMATS
_MOST_BLOCKS = 2**17  # of a file, walked through in search of a size


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
        self._compiled = tf.function(self.features, input_signature=[tf.TensorSpec([None], tf.string)])

    def features(self, encoded):
        """string `[batch]` → float32 `[batch, size, size, 3]`.

        Raises:
            tf.errors.InvalidArgumentError: a string is not a picture file (`NOT_A_PICTURE`, `NO_SIZE`, or what the
                decoder says), or the picture has more than `MAX_PIXELS` pixels ("The picture has … pixels").
        """
        pixels = tf.map_fn(self._pixels, tf.convert_to_tensor(encoded), fn_output_signature=tf.float32)
        return tf.ensure_shape(pixels, [None, self.size, self.size, 3])

    def _pixels(self, encoded):
        encoded, orientation = _checked(encoded)
        picture = tf.cast(tf.io.decode_image(encoded, expand_animations=False), tf.float32)
        picture = tf.ensure_shape(picture, [None, None, None])
        channels = tf.shape(picture)[-1]
        # Grey with alpha and colour with alpha: the last channel says how much of the picture hides the white.
        has_alpha = (channels == 2) | (channels == 4)
        colours = tf.where(has_alpha, channels - 1, channels)
        alpha = tf.where(has_alpha, picture[:, :, channels - 1 :] / 255, 1.0)
        colour = picture[:, :, :colours] * alpha + 255 * (1 - alpha)
        colour = tf.cond(colours == 1, lambda: tf.repeat(colour, 3, axis=-1), lambda: colour)
        resized = tf.image.resize(colour, [self.size, self.size], antialias=True)
        resized = _upright(resized, orientation)  # the square is turned, which is quicker than to turn the picture
        return tf.round(tf.clip_by_value(resized, 0.0, 255.0))  # whole numbers, so that uint8 keeps them as they are

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


def _checked(encoded):
    """string `[]` → what of it may be decoded, string `[]`, and its EXIF orientation, 1…8, int64 `[]`."""
    kinds = tf.stack([tf.strings.substr(encoded, 0, len(first)) == first for first in _FIRST_BYTES])
    encoded = required(encoded, (tf.reduce_any(kinds), NOT_A_PICTURE))
    data = padded(encoded)
    upright = tf.constant(1, tf.int64)
    branches = [
        lambda: (encoded, *_jpeg_header(data)),
        lambda: (encoded, number(data, 16, 4) * number(data, 20, 4), upright),
        lambda: (*_first_frame(encoded, data), upright),
        lambda: (encoded, number(data, 18, 4, little=True) * _bmp_height(data), upright),
    ]
    encoded, pixels, orientation = tf.switch_case(tf.argmax(kinds, output_type=tf.int32), branches)
    many = tf.strings.format(f"The picture has {{}} pixels, and at most {MAX_PIXELS} are decoded", pixels)
    return required(encoded, (pixels > 0, NO_SIZE), (pixels <= MAX_PIXELS, many)), orientation


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

"""Picture files to pixels; the same graph in training and in the SavedModel."""

import tensorflow as tf

from kseq.errors import UserError


class ImagePreprocessor(tf.Module):
    """Bytes of a JPEG, PNG, GIF or BMP file to pixels 0…255, the whole picture stretched to a square.

    One channel becomes three, 16 bits become 8, and transparent pixels are laid over white.

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
            tf.errors.InvalidArgumentError: a string is not a picture file.
        """
        pixels = tf.map_fn(self._pixels, tf.convert_to_tensor(encoded), fn_output_signature=tf.float32)
        return tf.ensure_shape(pixels, [None, self.size, self.size, 3])

    def _pixels(self, encoded):
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
            reason = error.message.partition("\n\t [[")[0].splitlines()[-1][:200]  # around it: where in the graph
            raise UserError(
                f"{pictures[0].where}: picture {pictures[0].id} cannot be decoded as JPEG, PNG, GIF or BMP ({reason}); "
                "mend or remove it, or leave such pictures out with --set data.on_error=skip"
            ) from None
        mirrored = [picture.mirrored for picture in pictures]
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels

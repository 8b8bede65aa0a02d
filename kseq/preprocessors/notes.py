"""Music as text and as piano rolls; the same graph in training and in the SavedModel."""

import tensorflow as tf

KEYS = 88
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
REST = "-"
BAR = " | "  # between two steps


def _keys(names):
    return tuple(f"{names[(k + 9) % 12]}{(k + 9) // 12}" for k in range(KEYS))


NOTES, _FLAT_NOTES = _keys(_NAMES), _keys(_FLATS)  # A0 … C8; middle C is C4
_KNOWN = {*NOTES, *_FLAT_NOTES, REST}


class NotePreprocessor(tf.Module):
    """Text to piano rolls and back: "C4 E4 G4 | D4 | -" is a chord, a note and a rest, a step each.

    A step names the keys that are down, with sharps or flats, A0 to C8; "-" is none. Steps are parted by "|".
    """

    def roll(self, texts):
        """string `[batch]` → float32 `[batch, steps, 88]`, zeros after the end, and lengths, int32 `[batch]`.

        Raises:
            tf.errors.InvalidArgumentError: a word is no note of a piano.
        """
        texts = tf.strings.strip(tf.convert_to_tensor(texts, tf.string))
        steps = tf.strings.split(texts, "|")
        words = tf.strings.split(steps.flat_values)
        known = (words.flat_values[:, None] == tf.constant(NOTES)) | (words.flat_values[:, None] == _FLAT_NOTES)
        right = tf.reduce_any(known, axis=1) | (words.flat_values == REST)
        wrong = tf.boolean_mask(words.flat_values, ~right)[:1]
        tf.debugging.Assert(tf.reduce_all(right), ["A note must be one of A0 to C8, or -; it is", wrong])
        count = tf.shape(words.row_lengths())[0]
        frames = tf.math.unsorted_segment_sum(tf.cast(known, tf.float32), words.value_rowids(), count)
        ragged = tf.RaggedTensor.from_row_splits(tf.minimum(frames, 1.0), steps.row_splits, validate=False)
        lengths = tf.where(texts == "", 0, tf.cast(steps.row_lengths(), tf.int32))
        return tf.ensure_shape(ragged.to_tensor(shape=[None, None, KEYS]), [None, None, KEYS]), lengths

    def text(self, roll, lengths):
        """`[batch, steps, 88]` and int `[batch]` → string `[batch]`, the inverse of `roll`; notes are written with
        sharps, the lowest first.
        """
        names = tf.where(tf.cast(roll, tf.bool), tf.constant([f" {note}" for note in NOTES]), "")
        steps = tf.strings.reduce_join(names, axis=-1)
        steps = tf.where(steps == "", f" {REST}", steps)
        real = tf.sequence_mask(lengths, tf.shape(steps)[1])
        joined = tf.strings.reduce_join(tf.where(real, tf.strings.join([" |", steps]), ""), axis=-1)
        return tf.strings.regex_replace(joined, r"^ \| ", "")

    def first_unknown(self, texts):
        """string `[batch]`, valid UTF-8 → string `[batch]`: the first word of each that is no note, "" if all are."""
        known = "|".join(sorted(_KNOWN))
        rest = tf.strings.regex_replace(texts, rf"^[\s|]*(?:(?:{known})(?:[\s|]+|$))*", "")
        return tf.strings.regex_replace(rest, r"(?s)[\s|].*", "")

    def unknown(self, text):
        """The words of one text that are no notes, list of str."""
        return [word for step in text.split("|") for word in step.split() if word not in _KNOWN]

    def steps(self, texts):
        """string `[batch]` → ragged string `[batch, (steps)]`: the `tokens` of each text."""
        return tf.strings.split(texts, BAR)

    def tokens(self, text):
        """The steps of one text, list of str."""
        return text.split(BAR) if text else []

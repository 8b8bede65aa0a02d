"""Music as text, as piano rolls and as events; the same graph in training and in the SavedModel."""

import tensorflow as tf

KEYS = 88
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
REST = "-"
HELD = "~"  # in front of a note that goes on
BAR = " | "  # between two steps


def _keys(names):
    return tuple(f"{names[(k + 9) % 12]}{(k + 9) // 12}" for k in range(KEYS))


NOTES, _FLAT_NOTES = _keys(_NAMES), _keys(_FLATS)  # A0 … C8; middle C is C4
_KNOWN = {*NOTES, *_FLAT_NOTES, REST}
_HELD = {f"{HELD}{note}" for note in (*NOTES, *_FLAT_NOTES)}

# The events of `events_of_roll`: the ids of the first of `KEYS` releases and strikes, and of the end of a step. Those
# below are padding, start and end, as of `TextPreprocessor`.
RELEASE = 3
STRIKE = RELEASE + KEYS
STEP = STRIKE + KEYS
EVENTS = STEP + 1  # ids in all


class NotePreprocessor(tf.Module):
    """Text to piano rolls and back: "C4 E4 G4 | D4 | -" is a chord, a note and a rest, a step each.

    A step names the keys that are down, with sharps or flats, A0 to C8; "-" is none. Steps are parted by "|".

    Args:
        onsets: whether a note that begins is told from one that goes on: "C4 E4 | ~C4 E4" holds C4 and strikes E4
            again. A note with "~" that did not sound in the step before begins.
    """

    def __init__(self, onsets=False):
        super().__init__()
        self.onsets = bool(onsets)

    def roll(self, texts):
        """string `[batch]` → float32 `[batch, steps, 88]`, zeros after the end, and lengths, int32 `[batch]`.

        With onsets the roll has a 2 where a note begins, and a 1 where it goes on.

        Raises:
            tf.errors.InvalidArgumentError: a word is no note of a piano.
        """
        if not self.onsets:
            return self._down(texts)
        texts = tf.convert_to_tensor(texts, tf.string)
        down, lengths = self._down(tf.strings.regex_replace(texts, rf"(^|[\s|]){HELD}([A-G])", r"\1\2"))
        named, _ = self._down(tf.strings.regex_replace(texts, rf"(^|[\s|]){HELD}[A-G][^\s|]*", rf"\1{REST}"))
        return down + tf.maximum(named, down - _before(down)), lengths

    def _down(self, texts):
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
        if self.onsets:
            names = tf.where(tf.equal(roll, 1), tf.constant([f" {HELD}{note}" for note in NOTES]), names)
        steps = tf.strings.reduce_join(names, axis=-1)
        steps = tf.where(steps == "", f" {REST}", steps)
        real = tf.sequence_mask(lengths, tf.shape(steps)[1])
        joined = tf.strings.reduce_join(tf.where(real, tf.strings.join([" |", steps]), ""), axis=-1)
        return tf.strings.regex_replace(joined, r"^ \| ", "")

    def first_unknown(self, texts):
        """string `[batch]`, valid UTF-8 → string `[batch]`: the first word of each that is no note, "" if all are."""
        known = "|".join(sorted(_KNOWN | _HELD if self.onsets else _KNOWN))
        rest = tf.strings.regex_replace(texts, rf"^[\s|]*(?:(?:{known})(?:[\s|]+|$))*", "")
        return tf.strings.regex_replace(rest, r"(?s)[\s|].*", "")

    def unknown(self, text):
        """The words of one text that are no notes, list of str."""
        words = [word for step in text.split("|") for word in step.split()]
        return [word for word in words if word not in _KNOWN and not (self.onsets and word in _HELD)]

    def steps(self, texts):
        """string `[batch]` → ragged string `[batch, (steps)]`: the `tokens` of each text."""
        return tf.strings.split(texts, BAR)

    def tokens(self, text):
        """The steps of one text, list of str."""
        return text.split(BAR) if text else []


def events_of_roll(roll, lengths):
    """The events that a performer makes of a roll (after Oore et al., 2018, https://arxiv.org/abs/1808.03715, section
    3.2: note off, note on and time shift; a roll knows no loudness, and its time goes by steps).

    In each step first the keys that are released, the lowest first, then those that are struck, then `STEP`; so within
    a step the ids rise. A key that is struck again is not released before. What sounds at the end is not released.

    Args:
        roll: `[batch, steps, 88]`, 2 where a note begins, 1 where it goes on, 0 elsewhere.
        lengths: int `[batch]`, steps of each.

    Returns:
        ragged int32 `[batch, (events)]`: `RELEASE` + key, `STRIKE` + key, or `STEP`.
    """
    roll = tf.convert_to_tensor(roll)
    down = roll > 0
    before = _before(down)
    struck = (roll == 2) | (down & ~before)
    happens = tf.concat([before & ~down, struck, tf.ones_like(down[..., :1])], axis=-1)
    happens &= tf.sequence_mask(lengths, tf.shape(roll)[1])[..., None]
    ids = tf.broadcast_to(tf.range(RELEASE, EVENTS), tf.shape(happens))
    flat = [tf.shape(roll)[0], tf.shape(roll)[1] * (EVENTS - RELEASE)]
    return tf.ragged.boolean_mask(tf.reshape(ids, flat), tf.reshape(happens, flat))


def roll_of_events(ids):
    """The inverse of `events_of_roll`.

    Args:
        ids: int `[batch, events]`. Those that are no events are passed over, and so are events behind the last `STEP`.

    Returns:
        float32 `[batch, steps, 88]` and lengths, int32 `[batch]`: the number of `STEP` of each row.
    """
    ids = tf.cast(ids, tf.int32)
    ends = tf.cast(ids == STEP, tf.int32)
    lengths, step = tf.reduce_sum(ends, axis=1), tf.cumsum(ends, axis=1)
    shape = [tf.reduce_max(tf.concat([[0], lengths], 0)) + 1, tf.shape(ids)[0], KEYS]

    def grid(first):  # bool [steps + 1, batch, keys], where one of these events is
        places = tf.cast(tf.where((first <= ids) & (ids < first + KEYS)), tf.int32)
        at = tf.stack([tf.gather_nd(step, places), places[:, 0], tf.gather_nd(ids, places) - first], axis=1)
        return tf.scatter_nd(at, tf.ones_like(at[:, 0]), shape) > 0

    released, struck = grid(RELEASE), grid(STRIKE)
    start = tf.zeros_like(struck[0])
    down = tf.scan(lambda down, now: (down & ~now[0]) | now[1], (released, struck), start)
    roll = tf.transpose(tf.cast(down, tf.float32) + tf.cast(struck, tf.float32), [1, 0, 2])[:, :-1]
    real = tf.sequence_mask(lengths, tf.shape(roll)[1], tf.float32)
    return tf.ensure_shape(roll * real[..., None], [None, None, KEYS]), lengths


def _before(down):
    """The step before each, nothing before the first: `[batch, steps, keys]`."""
    return tf.pad(down, [[0, 0], [1, 0], [0, 0]])[:, :-1]

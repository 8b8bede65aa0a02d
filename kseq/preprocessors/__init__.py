"""Preprocessors: raw examples to tensors and back, the same object in training and inside the SavedModel."""

from kseq.preprocessors.audio import AudioPreprocessor, FramePreprocessor, PerturbedAudio, compressed_format
from kseq.preprocessors.image import ImagePreprocessor
from kseq.preprocessors.notes import (
    EVENTS,
    NOTES,
    RELEASE,
    STEP,
    STRIKE,
    NotePreprocessor,
    events_of_roll,
    roll_of_events,
)
from kseq.preprocessors.subword import SubwordTokenizer
from kseq.preprocessors.text import TextPreprocessor, tokenize
from kseq.preprocessors.tokenizers import (
    END,
    PADDING,
    SPACE,
    SPECIAL,
    START,
    TIE,
    UNKNOWN,
    ByteTokenizer,
    CaptionTokenizer,
    CharacterTokenizer,
    SpaceTokenizer,
    Tokenizer,
    WordTokenizer,
)
from kseq.preprocessors.wordpiece import WordPieces

UNITS = {
    "caption": CaptionTokenizer,
    "space": SpaceTokenizer,
    "word": WordTokenizer,
    "character": CharacterTokenizer,
    "byte": ByteTokenizer,
    "subword": SubwordTokenizer,
}

__all__ = [
    "END",
    "EVENTS",
    "NOTES",
    "PADDING",
    "RELEASE",
    "SPACE",
    "SPECIAL",
    "START",
    "STEP",
    "STRIKE",
    "TIE",
    "UNITS",
    "UNKNOWN",
    "AudioPreprocessor",
    "ByteTokenizer",
    "CaptionTokenizer",
    "CharacterTokenizer",
    "FramePreprocessor",
    "ImagePreprocessor",
    "NotePreprocessor",
    "PerturbedAudio",
    "SpaceTokenizer",
    "SubwordTokenizer",
    "TextPreprocessor",
    "Tokenizer",
    "WordPieces",
    "WordTokenizer",
    "compressed_format",
    "events_of_roll",
    "roll_of_events",
    "tokenize",
]

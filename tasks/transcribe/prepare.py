"""Writes the table of the Free Spoken Digit Dataset, with the phones of each recording, beside its recordings.

python tasks/transcribe/prepare.py --recordings free-spoken-digit-dataset/recordings --out data/fsdd

The recordings, DIGIT_SPEAKER_INDEX.wav, are those of https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA
4.0). Its README makes those with an index of 0 to 4 the test set. The phones are those of the CMU Pronouncing
Dictionary, without stress.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from kseq.errors import UserError
from kseq.files import replacing

PHONES = (
    "Z IY R OW",
    "W AH N",
    "T UW",
    "TH R IY",
    "F AO R",
    "F AY V",
    "S IH K S",
    "S EH V AH N",
    "EY T",
    "N AY N",
)
NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")
TEST = 5  # recordings of each digit and speaker


def rows(names):
    """The lines of the table for the names of recordings, sorted; other files have none."""
    for name in sorted(names):
        if found := NAME.fullmatch(name):
            digit, speaker, index = found.groups()
            split = "test" if int(index) < TEST else "train"
            yield "\t".join([f"recordings/{name}", digit, speaker, index, split, PHONES[int(digit)]])


def prepare(recordings, out):
    """Copies the recordings to `out`/recordings and writes `out`/phonemes.tsv."""
    if not recordings.is_dir():
        raise UserError(f"there is no folder {recordings}")
    lines = list(rows(path.name for path in recordings.iterdir()))
    if not lines:
        raise UserError(f"{recordings} has no file like 0_george_0.wav")
    if out.exists():
        raise UserError(f"{out} is there; remove it, or name another folder")
    header = "\t".join(["file", "digit", "speaker", "index", "split", "phonemes"])
    with replacing(out) as draft:
        (draft / "recordings").mkdir(parents=True)
        for line in lines:
            name = Path(line.partition("\t")[0]).name
            shutil.copyfile(recordings / name, draft / "recordings" / name)
        (draft / "phonemes.tsv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    print(f"{len(lines)} recordings in {out}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, metavar="FOLDER", help="of the WAV files")
    parser.add_argument("--out", type=Path, default=Path("data/fsdd"), metavar="FOLDER", help="where to")
    options = parser.parse_args(arguments)
    try:
        prepare(options.recordings, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

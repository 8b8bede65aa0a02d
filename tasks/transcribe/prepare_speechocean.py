"""Writes the log-mel frames of speechocean762 as a file for each recording, and a table that splits them by speaker.

python tasks/transcribe/prepare_speechocean.py --features speechocean762 --out data/speechocean762

The folder has `train.tsv`, with the columns utt, speaker and phones, and `train_logmel40.npz`: `ids`, `lengths`,
`frames`, uint8 `[sum of the lengths, bands]`, and `lo` and `hi`, the values of 0 and 255. The recordings are those of
https://www.openslr.org/101 (CC BY 4.0). Ten speakers are dev, ten are test, by a hash of their names.
"""

import argparse
import csv
import hashlib
import sys
from pathlib import Path

import numpy as np

from kseq.errors import UserError
from kseq.files import replacing

SPEAKERS = 10  # of dev, and of test


def splits(speakers):
    """{speaker: split}; the same speakers are always split in the same way."""
    order = sorted(set(speakers), key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest())
    if len(order) <= 2 * SPEAKERS:
        raise UserError(f"{SPEAKERS} speakers each are dev and test, and there are {len(order)} in all")
    names = ["dev"] * SPEAKERS + ["test"] * SPEAKERS
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=True))


def read(features):
    """The rows of the table, dictionaries, and {utt: float16 `[frames, bands]`}."""
    try:
        with (features / "train.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        with np.load(features / "train_logmel40.npz") as stored:
            lo, hi, frames = float(stored["lo"]), float(stored["hi"]), stored["frames"]
            ends = np.cumsum(stored["lengths"])[:-1]
            frames = (lo + frames.astype("float32") / 255 * (hi - lo)).astype("float16")
            found = dict(zip(stored["ids"].tolist(), np.split(frames, ends), strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{features} cannot be read: {error}") from None
    for row in rows:
        if row["utt"] not in found:
            raise UserError(f"{features / 'train.tsv'} has the recording {row['utt']}, and the .npz file has not")
    return rows, found


def prepare(features, out):
    """Writes `out`/frames/UTT.npy and `out`/table.tsv."""
    if out.exists():
        raise UserError(f"{out} is there; remove it, or name another folder")
    rows, frames = read(features)
    split_of = splits(row["speaker"] for row in rows)
    lines = ["file\tspeaker\tsplit\tphones"]
    with replacing(out) as draft:
        (draft / "frames").mkdir(parents=True)
        for row in rows:
            name = f"frames/{row['utt']}.npy"
            np.save(draft / name, frames[row["utt"]], allow_pickle=False)
            lines.append("\t".join([name, row["speaker"], split_of[row["speaker"]], row["phones"]]))
        (draft / "table.tsv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"{len(rows)} recordings in {out}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True, metavar="FOLDER", help="of train.tsv")
    parser.add_argument("--out", type=Path, default=Path("data/speechocean762"), metavar="FOLDER", help="where to")
    options = parser.parse_args(arguments)
    try:
        prepare(options.features, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

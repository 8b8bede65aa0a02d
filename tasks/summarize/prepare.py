"""Makes pairs of a description and its one-line synopsis from the descriptions of Debian's packages.

    curl -LO https://deb.debian.org/debian/dists/bookworm/main/i18n/Translation-en.xz
    python tasks/summarize/prepare.py --translation Translation-en.xz --out data/debian-synopsis

The pairs have the form of those that the recorded figures were made with, but a Debian of another day has other
packages, so the figures will differ a little. Each description has the licence of its package.
"""

import argparse
import bz2
import gzip
import hashlib
import lzma
from pathlib import Path

from kseq.files import replacing

OPEN = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
WORDS = range(8, 81)  # of a description
DEV = 0.05  # share of the descriptions


def main(argv=None):
    parser = argparse.ArgumentParser(description="Makes pairs of description and synopsis from Debian's packages.")
    parser.add_argument("--translation", type=Path, required=True, help="Translation-en, plain or .xz, .bz2, .gz")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    if not args.translation.is_file():
        raise SystemExit(f"{args.translation} is missing; get one as the head of this script says")
    with OPEN.get(args.translation.suffix, open)(args.translation, "rt", encoding="utf-8") as lines:
        found = list(pairs(lines))
    if not found:
        raise SystemExit(f"{args.translation} holds no descriptions (Package: …, Description-en: …)")
    for split in ("train", "dev"):
        rows = [row for row in found if (share(row[1]) < DEV) == (split == "dev")]
        with replacing(args.out / f"{split}.tsv.gz") as draft, gzip.open(draft, "wt", encoding="utf-8") as file:
            file.writelines("\t".join(row) + "\n" for row in rows)
        print(f"{len(rows)} pairs in {args.out / split}.tsv.gz")


def pairs(lines):
    """Yields (package, first paragraph of the description, synopsis), each description once."""
    seen = set()
    for package, synopsis, paragraph in stanzas(lines):
        if synopsis and len(paragraph.split()) in WORDS and paragraph not in seen:
            seen.add(paragraph)
            yield package, paragraph, synopsis


def stanzas(lines):
    """Yields (package, synopsis, first paragraph) for each stanza that has a description."""
    fields, key = {}, ""
    for line in [*lines, "\n"]:
        if line.startswith(" "):  # goes on with the field before; " ." is an empty line
            fields[key] = fields.get(key, "") + line
        elif ":" in line:
            key, _, value = line.partition(":")
            fields[key] = value
        else:
            synopsis, _, text = fields.get("Description-en", "").partition("\n")
            paragraph = text.partition("\n .\n")[0]
            if "Package" in fields:
                yield fields["Package"].strip(), *(" ".join(part.split()) for part in (synopsis, paragraph))
            fields = {}


def share(text):
    """A number in 0…1 that depends on the text alone, so that a description stays in its split."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


if __name__ == "__main__":
    main()

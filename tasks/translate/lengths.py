"""Draws BLEU by the length of the source for several runs together: attention beside one fixed vector.

    python tasks/translate/lengths.py runs/translate/multi30k runs/translate/multi30k_fixed --out lengths.png

Each run must have been evaluated on the same dev split (`--mode=evaluate`).
"""

import argparse
import json
from pathlib import Path

from kseq import plots


def main(argv=None):
    parser = argparse.ArgumentParser(description="Draws BLEU by the length of the source, a line a run.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs that are evaluated")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    args = parser.parse_args(argv)
    lines = {}
    for run in args.runs:
        try:
            scores = json.loads((run / "metrics-dev.json").read_text())["bleu_by_length"]
        except (OSError, ValueError, KeyError) as error:
            raise SystemExit(f"{run} has no BLEU by length ({error}); evaluate it with --mode=evaluate") from None
        lines[run.name] = {int(length): score for length, score in scores.items()}
    plots.save(plots.by_length({"": lines}, "BLEU"), args.out)


if __name__ == "__main__":
    main()

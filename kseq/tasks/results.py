"""The record of a task: rows of `results.csv`, the card's table of them, and samples, written by the program and never
typed.
"""

import csv
import datetime
import io
import os
import platform
import re
import subprocess
from pathlib import Path

import kseq
from kseq.errors import UserError

COLUMNS = ("date", "commit", "config", "seed", "machine", "minutes", "split", "metric", "value")
SAMPLES = 20
TABLE = re.compile(r"(?<=<!-- results\.csv -->\n).*?(?=<!-- end -->)", re.DOTALL)  # its place in a card


def append_results(run, name, scores, seconds):
    """Appends a row a metric to `tasks/<task>/results.csv` below the current folder.

    Args:
        run: `Task`.
        name: of the config.
        scores: {split: {metric: number}}.
        seconds: of training.
    """
    path = _card(run) / "results.csv"
    text = path.read_text(encoding="utf-8") if path.exists() else ",".join(COLUMNS) + "\n"
    added = io.StringIO()
    writer = csv.writer(added, lineterminator="\n")
    today = datetime.date.today().isoformat()
    same = [today, commit(), name, run.config.seed, machine(), round(seconds / 60, 1)]
    for split, metrics in scores.items():
        for metric, value in metrics.items():
            writer.writerow([*same, split, metric, f"{value:.4f}"])
    kseq.files.write_text(path, text + added.getvalue())
    print(f"recorded in {path}", flush=True)
    card = path.with_name("README.md")
    if card.exists():
        kseq.files.write_text(card, with_table(card.read_text(encoding="utf-8"), text + added.getvalue()))


def with_table(card, results):
    """The text of a card, whose table, where it has a place for one, shows the last run of each config in `results`.

    A column a config and split, a row a metric, so that many metrics have room.
    """
    runs = {}
    for row in csv.DictReader(io.StringIO(results)):
        splits = runs.setdefault(row["config"], {})
        before = next(iter(splits.values()), row)
        if before["commit"] != row["commit"] or row["metric"] in splits.get(row["split"], ()):
            splits.clear()  # a newer run
        column = splits.setdefault(row["split"], {})
        if row["metric"] != "seconds_train":
            value = float(row["value"])
            digits = ".1f" if value >= 10 else ".2f" if value > 1 else ".3g"
            column[row["metric"]] = f"{value:{digits}}"
        column |= {"split": row["split"], "minutes": row["minutes"], "commit": row["commit"]}
    names = [name for name, splits in runs.items() for _ in splits]
    columns = [column for splits in runs.values() for column in splits.values()]
    lines, last = [_line("", *names), "|---" * (1 + len(columns)) + "|"], ("split", "minutes", "commit")
    metrics = dict.fromkeys(metric for column in columns for metric in column if metric not in last)
    for name in ("split", *metrics, "minutes", "commit"):
        lines.append(_line(name, *(column.get(name, "") for column in columns)))
    return TABLE.sub(lambda _: "\n".join(["", *lines, "", ""]), card)


def write_samples(run, name, rows):
    """Writes `SAMPLES` predictions, evenly spread over the split, and what `predict` draws of dev, to the card."""
    folder = _card(run) / "samples"
    chosen = rows[:: max(1, len(rows) // SAMPLES)][:SAMPLES]
    lines = [f"# {name}: {len(chosen)} of {len(rows)} predictions, evenly spread over dev", ""]
    source = ["source"] if "source" in rows[0] else []
    lines += [_line("", "id", *source, "prediction", "a reference"), "|---" * (4 + len(source)) + "|"]
    for row in chosen:
        shown = [row["id"], *(row[name].replace("\t", " // ") for name in source), *run.shown(row)]
        lines.append(_line("=" if row["exact"] else "≠", *shown))
    lines += ["", "= the prediction is one of the references, to the letter; ≠ it is not.", ""]
    kseq.files.write_text(folder / f"{name}.md", "\n".join(lines))
    for called, example, found in run.predict(run.some_of_dev(), folder / name):
        print(run.line(called, example, found), flush=True)
    confusion = run.workdir / "predictions" / "confusion-dev.png"
    if confusion.exists():
        with kseq.files.replacing(folder / name / "confusion.png") as draft:
            draft.write_bytes(confusion.read_bytes())


def _line(*cells):
    """A line of a table; what would end a cell is written so that it does not."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _card(run):
    folder = Path("tasks", run.name)
    if not folder.is_dir():
        raise UserError(f"--record writes to {folder}, which is not here; run it from the project's root")
    return folder


def machine():
    """The processor's name, and how many cores there are."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return f"{found[1] if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def commit():
    """The commit of the checkout that kseq runs from, with "-dirty" when it was changed; None outside a checkout.

    The records of earlier runs, in `tasks/`, are no change.
    """
    root = Path(kseq.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)tasks")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if changed else head


def _git(root, *arguments):
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

"""Where real data are, beside the project's folder; a test that needs them is skipped where they are not."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "data"
needed = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there are no real data in {FOLDER}")

# {name: (source, fields, options)}, as `kseq.data.read` takes them.
SOURCES = {
    "multi30k": (f"text:{FOLDER}/multi30k/{{split}}.{{field}}.gz", {"source": "fr", "target": "en"}, {}),
    "snips": (f"text:{FOLDER}/snips/{{split}}/{{field}}", {"text": "seq.in", "tags": "seq.out", "label": "label"}, {}),
    "sick": (f"tsv:{FOLDER}/sick/{{split}}.txt", {"premise": "sentence_A", "hypothesis": "sentence_B"}, {}),
    "debian-synopsis": (
        f"tsv:{FOLDER}/debian-synopsis/{{split}}.tsv.gz",
        {"document": "document", "summary": "summary"},
        {"columns": ("package", "document", "summary")},
    ),
    "trec": (f"labelled:{FOLDER}/trec/{{split}}.txt", {"text": "text", "label": "label"}, {"bad_bytes": "latin-1"}),
    "sst2": (f"labelled:{FOLDER}/sst2/{{split}}.txt", {"text": "text", "label": "label"}, {}),
    "chnsenticorp": (
        f"csv:{FOLDER}/chnsenticorp/ChnSentiCorp_htl_all.csv",
        {"text": "review", "label": "label"},
        {},
    ),
}

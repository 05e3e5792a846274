"""The pieces of a bundle: parts, and the archive of images."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloister import config
from cloister.bundle import archive, make
from cloister.bundle.parts import Parts
from cloister.errors import BundleError


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 40))
def test_parts_are_the_whole_and_none_is_too_large(chunks: list[bytes], limit: int) -> None:
    folder = Path("/dev/shm/cloister-parts")  # noqa: S108  # written 100 times
    sums: dict[str, str] = {}
    with Parts(folder, "a.tar", sums, part_bytes=limit) as file:
        for chunk in chunks:
            file.write(chunk)
    parts = [(folder / name).read_bytes() for name in sorted(sums)]
    assert b"".join(parts) == b"".join(chunks)
    assert all(len(part) <= limit for part in parts)
    assert [hashlib.sha256(part).hexdigest() for part in parts] == [sums[n] for n in sorted(sums)]
    for name in sums:
        (folder / name).unlink()


def test_parts_are_no_more_than_three_digits_can_number(tmp_path: Path) -> None:
    sums: dict[str, str] = {}
    with Parts(tmp_path, "a.tar", sums, part_bytes=1) as file:
        file.write(bytes(1000))
        with pytest.raises(BundleError, match="more than 1000 parts"):
            file.write(b"1")
    assert len(list(tmp_path.iterdir())) == len(sums) == 1000
    assert max(sums) == "a.tar.999"


def saved(order: int = 1) -> bytes:
    """Return what an old engine's `docker save` writes of an image with a layer twice."""
    config, layer = b'{"rootfs":{}}', b"layer"
    described = [
        {"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}
    ]
    out = io.BytesIO()
    members = [
        ("c.json", config),
        ("a/layer.tar", layer),
        ("manifest.json", json.dumps(described).encode()),
    ]
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members[::order]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1000 * order
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
    return out.getvalue()


def unpacked(folder: Path, content: bytes) -> archive.Saved:
    chunks = [content[first : first + 700] for first in range(0, len(content), 700)]
    return archive.unpack("cloister/x:1", chunks, folder)


def test_an_archive_is_an_oci_layout_and_loads_anywhere(tmp_path: Path) -> None:
    image = unpacked(tmp_path, saved())
    out = io.BytesIO()
    archive.write([image], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for name, content in found.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (described,) = json.loads(found["index.json"])["manifests"]
    assert described["digest"] == image.digest
    manifest = json.loads(found[f"blobs/{image.digest.replace(':', '/')}"])
    assert manifest["config"]["digest"] == image.id
    assert [layer["size"] for layer in manifest["layers"]] == [5, 5]
    (docker,) = json.loads(found["manifest.json"])
    assert docker["RepoTags"] == ["cloister/x:1"]
    assert all(name in found for name in (docker["Config"], *docker["Layers"]))
    assert len([name for name in found if name.startswith("blobs/")]) == 3


def test_the_same_image_has_the_same_digest_however_it_was_saved(tmp_path: Path) -> None:
    out = []
    for order in (1, -1):
        folder = tmp_path / str(order)
        folder.mkdir()
        file = io.BytesIO()
        archive.write([unpacked(folder, saved(order))], file)
        out.append(file.getvalue())
    assert out[0] == out[1]


def test_a_bundle_does_not_pin_what_the_next_one_changes() -> None:
    """The far side keeps its first cloister.yaml, and gets other images and models later."""
    flags = ["ocr.dpi=99", "model.revision=" + "a" * 40, "state_dir=/here"]
    loaded = config.load(flags=flags, environ={"CLOISTER_CONFIG": "/dev/null"})
    text = make.plan(loaded, "tesseract", with_model=True).configuration
    assert yaml.safe_load(text) == {
        "ocr": {"dpi": 99},
        "model": {"name": "nanonets/Nanonets-OCR2-3B"},
        "runtime": "docker",
        "engine": "tesseract",
    }
    loaded = config.load(flags=["docker.tag=mine"], environ={"CLOISTER_CONFIG": "/dev/null"})
    text = make.plan(loaded, "tesseract", with_model=True).configuration
    assert yaml.safe_load(text)["docker"] == {"tag": "mine"}


@pytest.mark.parametrize("name", ["my scan.png", "a~", "ü.md"])
def test_a_name_that_the_far_side_refuses_is_said_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / name).touch()
    monkeypatch.setattr(make, "project_root", lambda: tmp_path)
    monkeypatch.setattr(make, "_PROJECT", ("samples",))
    planned = make.Plan((), None, None, "")
    with pytest.raises(BundleError, match="cannot carry"):
        make.make(planned, make.Options(tmp_path / "out", tmp_path / "key"), lambda _: None)
    negative = make.Options(tmp_path / "out", tmp_path / "key", part_bytes=-1)
    with pytest.raises(BundleError, match="1 or more"):
        make.make(planned, negative, lambda _: None)
    assert not (tmp_path / "out").exists()

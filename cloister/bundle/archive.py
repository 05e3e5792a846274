"""Images as one archive that is an OCI layout and that every Docker engine can load.

`docker save` of old engines writes a format of its own, and none of them keeps digests. Here every
image gets an OCI manifest whose digest depends on its content alone, and layers that images share
are there once. manifest.json beside it is what `docker load` of any engine reads.
Sources: the OCI image layout and image manifest specifications, 1.1.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cloister import containers, datafiles
from cloister.cleaning import on_one_line
from cloister.containers import archives

_CHUNK_BYTES = 1 << 20
_MOST_MEMBERS = 20_000  # an engine saves some four files a layer
_MOST_LAYERS = 1000  # an image can have 127
_MOST_LINKS = 16
_MOST_JSON_BYTES = 4 << 20  # as registries take of a manifest
_DESCRIBED = "manifest.json"
_SHOWN = 100  # characters of a name
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_OCI = "application/vnd.oci.image"
_COMPRESSED = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


@dataclass(frozen=True)
class Blob:
    """One piece of an image; `digest` is `sha256:` and hexadecimal, `size` in bytes."""

    digest: str
    size: int
    path: Path

    @property
    def name(self) -> str:
        """Its name inside the archive."""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True)
class Saved:
    """One image: `id` is what a classic engine calls it, `digest` that of its OCI manifest."""

    reference: str
    config: Blob
    layers: tuple[Blob, ...]
    manifest: bytes

    @property
    def id(self) -> str:
        """The digest of its configuration."""
        return self.config.digest

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return _digest(self.manifest)


def unpack(reference: str, stream: Iterable[bytes], scratch: Path) -> Saved:
    """Take what `docker save` writes apart into blobs below `scratch`.

    Raises ImageError for what is no archive of one image, or is beyond its bounds.
    """
    blobs: dict[str, Blob] = {}
    links: dict[str, str] = {}
    described: Any = None
    what = f"what Docker saves of `{reference}`"
    with archives.reading(what, containers.file_of(stream)) as archive:
        for member in archives.members(archive, _MOST_MEMBERS):
            content = archive.extractfile(member) if member.isfile() else None
            if member.issym():
                links[member.name] = str(Path(member.name).parent / member.linkname)
            elif content is not None and (member.name in blobs or member.name in links):
                raise archives.UnfitError(f"it has `{on_one_line(member.name[:_SHOWN])}` twice")
            elif member.name == _DESCRIBED and content is not None:
                described = _described(content, described)
            elif content is not None:
                blobs[member.name] = _kept(content, scratch)
        config, layers = _parts(described, blobs, links)
    return Saved(reference, config, layers, _manifest(config, layers))


def _described(content: IO[bytes], before: Any) -> Any:
    text = content.read(_MOST_JSON_BYTES + 1)
    if before is not None or len(text) > _MOST_JSON_BYTES:
        raise archives.UnfitError(f"its {_DESCRIBED} is there twice, or is too large")
    return datafiles.parse_json(text)


def _parts(
    described: Any, blobs: dict[str, Blob], links: dict[str, str]
) -> tuple[Blob, tuple[Blob, ...]]:
    """Return the configuration and the layers; raises UnfitError for no description of one image.

    Its names are looked up, and never are paths.
    """

    def found(name: str) -> Blob:
        for _ in range(_MOST_LINKS):
            if name not in links:
                return blobs[name]
            name = _plain(links[name])
        raise archives.UnfitError("it has links that lead to each other")

    try:
        (entry,) = described
        layers = tuple(entry["Layers"])
        if len(layers) > _MOST_LAYERS:
            raise archives.UnfitError(f"it has more than {_MOST_LAYERS:,} layers")
        return found(entry["Config"]), tuple(found(layer) for layer in layers)
    except (LookupError, TypeError, ValueError) as error:
        raise archives.UnfitError(f"its {_DESCRIBED} describes no image that is there") from error


def write(images: Iterable[Saved], out: IO[bytes]) -> None:
    """Write the archive; the same images give the same bytes."""
    saved = sorted(images, key=lambda image: image.reference)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _LAYOUT)
        _add(archive, "index.json", _json(_index(saved)))
        _add(archive, "manifest.json", _json([_docker(image) for image in saved]))
        for image in saved:
            _add(archive, f"blobs/{image.digest.replace(':', '/')}", image.manifest)
        blobs = {blob.digest: blob for image in saved for blob in (image.config, *image.layers)}
        for blob in sorted(blobs.values(), key=lambda blob: blob.name):
            entry = tarfile.TarInfo(blob.name)
            entry.size = blob.size
            with blob.path.open("rb") as content:
                archive.addfile(entry, content)


def lay_out(image: Saved, folder: Path) -> None:
    """Write one image as a layout in a folder of its own; its blobs are moved there."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (folder / "oci-layout").write_bytes(_LAYOUT)
    (folder / "index.json").write_bytes(_json(_index([image])))
    (folder / f"blobs/{image.digest.replace(':', '/')}").write_bytes(image.manifest)
    for blob in {blob.digest: blob for blob in (image.config, *image.layers)}.values():
        shutil.move(blob.path, folder / blob.name)


def _manifest(config: Blob, layers: tuple[Blob, ...]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(f"{_OCI}.config.v1+json", config),
            "layers": [_descriptor(_layer_type(layer), layer) for layer in layers],
        }
    )


def _index(saved: Iterable[Saved]) -> dict[str, Any]:
    manifests = [
        {
            "mediaType": f"{_OCI}.manifest.v1+json",
            "digest": image.digest,
            "size": len(image.manifest),
            "annotations": {
                "io.containerd.image.name": f"docker.io/{image.reference}",
                "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
            },
        }
        for image in saved
    ]
    return {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": manifests}


def _docker(image: Saved) -> dict[str, Any]:
    return {
        "Config": image.config.name,
        "RepoTags": [image.reference],
        "Layers": [layer.name for layer in image.layers],
    }


def _descriptor(kind: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _layer_type(blob: Blob) -> str:
    with blob.path.open("rb") as content:
        return f"{_OCI}.layer.v1.tar{_COMPRESSED.get(content.read(2), '')}"


def _kept(content: IO[bytes], scratch: Path) -> Blob:
    hashed, size = hashlib.sha256(), 0
    beside = scratch / "incoming"
    with beside.open("wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
            file.write(chunk)
    path = scratch / hashed.hexdigest()
    shutil.move(beside, path)
    return Blob(f"sha256:{hashed.hexdigest()}", size, path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _plain(path: str) -> str:
    """Return `a/../b` as `b`."""
    parts: list[str] = []
    for part in Path(path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

"""A built image as an OCI layout: the bytes that are pushed, and their digest before they are.

skopeo would convert the engine's own format and lose the health check, which OCI's specification
does not name. So the configuration is taken over to the letter, as a bundle does.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import docker

from cloister import console
from cloister.bundle import archive
from cloister.errors import PublishError
from cloister.images.bake import MAX_LAYER_BYTES
from cloister.publishing import tools

_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_BYTES = 1 << 50
_GB = 1_000_000_000


@dataclass(frozen=True)
class Layout:
    """A folder with one image; `size` is what is sent, at most."""

    folder: Path
    digest: str
    size: int


def export(
    client: docker.DockerClient, identity: str, folder: Path, annotations: Mapping[str, str]
) -> Layout:
    """Write an image of the engine, by its id, as a layout; compressed, with annotations.

    Raises PublishError for a layer that registries do not take.
    """
    scratch = folder.with_name(f"{folder.name}.part")
    for path in (scratch, folder):
        shutil.rmtree(path, ignore_errors=True)
    (scratch / "raw").mkdir(parents=True)
    found = client.images.get(identity)
    stream = cast("Iterable[bytes]", found.save())
    with console.transfer("exporting", found.attrs["Size"]) as advance:
        saved = archive.unpack("image:exported", _counted(stream, advance), scratch / "raw")
    archive.lay_out(saved, scratch / "plain")
    flags = ("copy", "--quiet", "--dest-compress-format=gzip")
    places = (f"oci:{scratch / 'plain'}", f"oci:{scratch / 'layout'}")
    tools.require("the image was not compressed", "skopeo", (*flags, *places))
    made = annotated(scratch / "layout", annotations)
    (scratch / "layout").rename(folder)
    shutil.rmtree(scratch)
    return Layout(folder, *made)


def annotated(folder: Path, annotations: Mapping[str, str]) -> tuple[str, int]:
    """Put annotations into the manifest of a layout; return its new digest and its size."""
    blobs = folder / "blobs" / "sha256"
    what = f"the layout in `{folder}`"
    index = tools.loaded(what, folder / "index.json", tools.MANIFEST_BYTES)
    with tools.expecting(what):
        (entry,) = index["manifests"]
        before = blobs / _hash(entry["digest"])
    manifest = tools.loaded(what, before, tools.MANIFEST_BYTES)
    with tools.expecting(what):
        _require_sizes(manifest)
        require_small(manifest)
    manifest = {**manifest, "mediaType": _TYPE, "annotations": dict(annotations)}
    content = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    hashed = hashlib.sha256(content).hexdigest()
    before.unlink()
    (blobs / hashed).write_bytes(content)
    digest = f"sha256:{hashed}"
    index["manifests"] = [{"mediaType": _TYPE, "digest": digest, "size": len(content)}]
    (folder / "index.json").write_text(json.dumps(index))
    return digest, sum(layer["size"] for layer in manifest["layers"])


def require_small(manifest: Mapping[str, Any]) -> None:
    """Raise PublishError for a layer that is larger than registries take; pure."""
    for number, layer in enumerate(manifest["layers"], 1):
        if layer["size"] > MAX_LAYER_BYTES:
            raise PublishError(
                f"layer {number} is {layer['size'] / _GB:.1f} GB, and registries take "
                f"{MAX_LAYER_BYTES / _GB:.0f} at most",
                hint="split it; a model into smaller safetensors shards, each of which is a layer",
            )


def _hash(digest: object) -> str:
    """Return the name of a blob's file; raises PublishError for what could lead elsewhere."""
    found = _DIGEST.fullmatch(str(digest))
    if found is None:
        raise PublishError(f"{str(digest)[:100]!r} is no digest of a manifest")
    return found[1]


def _require_sizes(manifest: Mapping[str, Any]) -> None:
    for number, layer in enumerate(manifest["layers"], 1):
        if type(layer["size"]) is not int or not 0 <= layer["size"] <= _MOST_BYTES:
            raise PublishError(f"layer {number} has no size that can be one")


def _counted(stream: Iterable[bytes], advance: Any) -> Iterator[bytes]:
    for chunk in stream:
        advance(len(chunk))
        yield chunk

"""Builds every image twice from nothing, and tells which layers differ and by what."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cloister import config, console, containers, images
from cloister.bundle import archive
from cloister.images import lock as locks

_NAMED = 6  # files of a layer that are named
_ASPECTS = ("contents", "time", "owner or mode")


def main() -> None:
    """Print a table: image, layer, and the files that differ."""
    parser = argparse.ArgumentParser(prog="benchmarks.reproducible", description=__doc__)
    parser.add_argument("--local", action="store_true", help="build on the stand-ins")
    parser.add_argument("--image", help="one image (default: all but vLLM's)")
    arguments = parser.parse_args()
    settings = config.load(flags=["docker.tag=reproducible"]).settings
    options = images.Options(image=arguments.image, local=arguments.local)
    planned = images.plan_builds(
        options,
        settings.docker,
        images.source(),
        lock=locks.read(),
        authority=images.authority(),
    )
    rows = [row for build in planned for row in compared(build)]
    console.table(("image", "layer", "MB", "twice the same", "what differs"), rows)


def compared(build: images.Build) -> Iterator[tuple[object, ...]]:
    """Build an image twice, and yield a row for each layer."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (made(build, Path(folder, name)) for name in ("first", "second"))
        for number, (a, b) in enumerate(zip(first.layers, second.layers, strict=True), 1):
            same = a.digest == b.digest
            differs = "" if same else "; ".join(difference(a.path, b.path))
            size = f"{a.size / 1e6:.1f}"
            yield build.image.name, number, size, "yes" if same else "no", differs
        a, b = (json.loads(one.config.path.read_text()) for one in (first, second))
        keys = [key for key in a if a[key] != b.get(key)]
        yield build.image.name, "config", "", "no" if keys else "yes", ", ".join(keys)


def made(build: images.Build, scratch: Path) -> archive.Saved:
    """Build an image from nothing, and return its layers."""
    scratch.mkdir()
    command = (*containers.builder(), "build", "--no-cache", "--quiet", *build.arguments)
    subprocess.run(
        command,
        check=True,
        cwd=config.project_root(),
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        stdout=sys.stderr,
    )
    client = containers.connect()
    image = client.images.get(build.reference)
    saved = archive.unpack(build.reference, cast("Any", image.save()), scratch)
    client.images.remove(build.reference)
    return saved


def difference(a: Path, b: Path) -> Iterator[str]:
    """Yield what differs between the files of two layers."""
    first, second = entries(a), entries(b)
    only = sorted(first.keys() ^ second.keys())
    if only:
        yield f"in one alone: {_named(only)}"
    for number, aspect in enumerate(_ASPECTS):
        names = [n for n in first.keys() & second.keys() if first[n][number] != second[n][number]]
        if names:
            yield f"{aspect}: {_named(sorted(names))}"
    if list(first) != list(second) and not only:
        yield "the order of the files"


def entries(layer: Path) -> dict[str, tuple[str, object, object]]:
    """Return contents, time, and owner and mode of every file of a layer."""
    found: dict[str, tuple[str, object, object]] = {}
    with tarfile.open(layer) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            hashed = hashlib.sha256(content.read()).hexdigest() if content else member.linkname
            owner = (member.uid, member.gid, member.mode, member.type)
            found[member.name] = (hashed, member.mtime, owner)
    return found


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


if __name__ == "__main__":
    main()

"""The jobs of CI: one an image and platform, and the space that each needs."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cloister import containers
from cloister.errors import ImageError
from cloister.images.build import known
from cloister.images.catalogue import Image

_GB = 1_000_000_000
# GitHub's names. A machine of the platform builds and tests without emulation.
_RUNNERS = {"linux/amd64": "ubuntu-24.04", "linux/arm64": "ubuntu-24.04-arm"}
# The base, as it is pulled and unpacked, and the layer over it. GitHub promises 14 GB.
_NEEDED_BYTES = {"cuda": 50 * _GB, "cpu": 20 * _GB, None: 5 * _GB}


def matrix(
    images: Mapping[str, Image], platform: str | None = None
) -> dict[str, list[dict[str, str | None]]]:
    """Return the jobs that build `images`, in GitHub's form, all or those of a platform; pure.

    Raises ImageError for a platform that no image has, or that no runner has.
    """
    pairs = [(image, each) for image in images.values() for each in image.platforms]
    chosen = [(image, each) for image, each in pairs if platform in {None, each}]
    if not chosen:
        there = ", ".join(sorted({each for _, each in pairs}))
        raise ImageError(f"no image is built for `{platform}`; there are {there}")
    without = next((each for _, each in chosen if each not in _RUNNERS), None)
    if without is not None:
        raise ImageError(f"no runner builds for `{without}`; there are {', '.join(_RUNNERS)}")
    jobs: list[dict[str, str | None]] = [
        {
            "image": image.name,
            "platform": each,
            "engine": image.engine,
            "runner": _RUNNERS[each],
        }
        for image, each in chosen
    ]
    return {"include": jobs}


def preflight(name: str) -> str:
    """Return what was found, where Docker has the space that building an image takes.

    Raises ImageError where it has not.
    """
    image = known(name)
    folder = Path(containers.connect().info()["DockerRootDir"])
    # The engine may be another machine's; then this one's file system is as good a guess as any.
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return judged(image, folder, shutil.disk_usage(there).free)


def judged(image: Image, folder: Path, free_bytes: int) -> str:
    """Return a line about the space, or raise ImageError when there is too little; pure."""
    needed = _NEEDED_BYTES[image.engine]
    found = f"{folder} has {free_bytes / _GB:.0f} GB free; {image.name} takes {needed / _GB:.0f}"
    if free_bytes < needed:
        raise ImageError(found, hint="docker system prune, or a machine with a larger disk")
    return found

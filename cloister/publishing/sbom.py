"""What is in an image, as syft reads it from the very bytes that are pushed: CycloneDX and SPDX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloister.errors import PublishError
from cloister.publishing import tools
from cloister.publishing.layout import Layout

# By the type that cosign calls them; what is in a file of that name.
FILES = {"cyclonedx": "cyclonedx.json", "spdxjson": "spdx.json"}
_FORMATS = {"cyclonedx": "cyclonedx-json", "spdxjson": "spdx-json"}
_OFFLINE = {"SYFT_CHECK_FOR_APP_UPDATE": "false"}


def write(layout: Layout, name: str, folder: Path) -> None:
    """Write both lists of what is in a layout; raises PublishError when they name nothing."""
    beside = {kind: folder / f"{file}.part" for kind, file in FILES.items()}
    outputs = [f"--output={_FORMATS[kind]}={path}" for kind, path in beside.items()]
    source = (f"--source-name={name}", f"--source-version={layout.digest}")
    result = tools.run(
        "syft",
        "scan",
        "--quiet",
        f"oci-dir:{layout.folder}",
        *source,
        *outputs,
        environment=_OFFLINE,
    )
    if result.code != 0:
        raise PublishError(f"syft did not list {name}: {tools.why(result)}")
    what = f"what syft lists of {name}"
    listed = tools.loaded(what, beside["cyclonedx"])
    with tools.expecting(what):
        number = packages(listed)
    if number == 0:
        raise PublishError(f"syft found no package in {name}, which cannot be")
    for kind, path in beside.items():
        path.rename(folder / FILES[kind])


def packages(cyclonedx: Mapping[str, Any]) -> int:
    """Return how many packages a CycloneDX list names; pure."""
    return sum(part.get("type") == "library" for part in cyclonedx.get("components", ()))

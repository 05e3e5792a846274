"""An image that carries its model: one layer a file, so that shards are pulled side by side."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from cloister import containers, shell
from cloister.errors import ImageError
from cloister.images.build import Build

_BAKE_S = 3600.0
# Registries refuse larger layers: GHCR and most S3-backed ones.
MAX_LAYER_BYTES = 10_000_000_000


def dockerfile(base: str, files: tuple[str, ...]) -> str:
    """Return the Dockerfile of a baked image: a layer a shard, one a folder of others; pure."""
    shards = [name for name in files if name.endswith(".safetensors")]
    small: dict[PurePosixPath, list[str]] = {}
    for name in files:
        if name not in shards:
            small.setdefault(PurePosixPath(name).parent, []).append(name)
    copies = []
    for layer in (*small.values(), *([shard] for shard in shards)):
        target = PurePosixPath("/model", layer[0]).parent
        copies.append(f"COPY --chmod=0444 {json.dumps([*layer, f'{target}/'])}")
    return "\n".join([f"FROM {base}", *copies, ""])


def bake(
    built: Build,
    reference: str,
    model: Path,
    labels: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Put a model into a built image, as the image `reference` with more `labels`.

    Raises ImageError for a file that registries would not take, or when the build fails.
    """
    files = tuple(sorted(str(p.relative_to(model)) for p in model.rglob("*") if p.is_file()))
    for name in files:
        size = (model / name).stat().st_size
        if size > MAX_LAYER_BYTES:
            raise ImageError(
                f"`{name}` is {size} bytes, over the {MAX_LAYER_BYTES} that registries take",
                hint="split the model into smaller safetensors shards",
            )
    say(f"baking {model} into {reference}")
    with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as file:
        file.write(dockerfile(built.reference, files))
        file.flush()
        result = shell.run(
            (
                *(*containers.builder(), "build", f"--file={file.name}", f"--tag={reference}"),
                *(f"--label={key}={text}" for key, text in labels.items()),
                ".",
            ),
            timeout_s=_BAKE_S,
            check=False,
            environment={"DOCKER_BUILDKIT": "1"},
            folder=model,
        )
    if result.code != 0:
        raise ImageError(f"{reference} was not built:\n{result.stderr.strip()[-1000:]}")

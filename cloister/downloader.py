"""Fetches one revision of a model from the hub, verifies it, and only then gives it its name.

Run as `python3 -m cloister.downloader MODEL [--revision R]` in the image `downloader`, by
`docker compose --profile setup run --rm model-downloader`. Nothing that serves has the network
that this has, and this has no network that serves.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from cloister.errors import ModelStoreError

_MODEL = "nanonets/Nanonets-OCR2-3B"
# Data, never code: no pickle and no Python, whatever a repository also holds.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja")
_HEADROOM = 1.05
_READY = "READY"


def download(model: str, revision: str, store: Path, api: HfApi) -> Path:
    """Bring `model` at `revision`, a branch, tag or commit, into `store`; return its folder.

    Raises ModelStoreError when there is not enough room, or when a byte is not the hub's.
    """
    info = api.model_info(model, revision=revision)
    commit = str(info.sha)
    target = store / model / commit
    if (target / _READY).exists():
        return target
    wanted = _wanted(api, model, commit)
    _require_room(store, wanted)
    staging = store / f".{model.replace('/', '--')}-{commit}"
    snapshot_download(
        model,
        revision=commit,
        local_dir=staging,
        allow_patterns=list(_PATTERNS),
        endpoint=api.endpoint,
        token=api.token,
    )
    shutil.rmtree(staging / ".cache", ignore_errors=True)  # the hub's own notes
    digests = {file.path: _verified(staging / file.path, file) for file in wanted}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    _write_synced(staging / _READY, "".join(lines))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)  # what was there had no READY
    staging.rename(target)
    return target


def _wanted(api: HfApi, model: str, commit: str) -> list[RepoFile]:
    tree = api.list_repo_tree(model, revision=commit, recursive=True)
    suffixes = tuple(pattern.removeprefix("*") for pattern in _PATTERNS)
    found = [e for e in tree if isinstance(e, RepoFile) and e.path.endswith(suffixes)]
    if not any(entry.path.endswith(".safetensors") for entry in found):
        raise ModelStoreError(f"`{model}` has no safetensors at {commit}: nothing that is served")
    return found


def _require_room(store: Path, wanted: Iterable[RepoFile]) -> None:
    needed = int(sum(file.size for file in wanted) * _HEADROOM)
    free = shutil.disk_usage(store).free
    if free < needed:
        raise ModelStoreError(
            f"`{store}` has {free / 1e9:.1f} GB free, and the model needs {needed / 1e9:.1f} GB"
        )


def _verified(path: Path, file: RepoFile) -> str:
    """Return a file's SHA-256 after comparing it with what the hub says of it, and sync it."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        os.fsync(opened.fileno())
    if file.lfs is not None:
        right = digest == file.lfs.sha256
    else:
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324  # git's own
        right = blob.hexdigest() == file.blob_id
    if not right:
        path.unlink()
        raise ModelStoreError(f"`{file.path}` is not what the hub says it is; run this again")
    return digest


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Download one model; end with 4 and a line that says why when it cannot be had."""
    parser = argparse.ArgumentParser(prog="cloister.downloader", description=__doc__)
    parser.add_argument("model", nargs="?", default=_MODEL)
    parser.add_argument("--revision", default="main", help="a branch, a tag or a commit")
    parser.add_argument("--store", type=Path, default=Path("/models"))
    options = parser.parse_args()
    try:
        folder = download(options.model, options.revision, options.store, HfApi())
    except (ModelStoreError, HfHubHTTPError, OSError) as error:
        sys.stderr.write(f"error: {str(error).splitlines()[0]}\n")
        sys.exit(ModelStoreError.exit_code)
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()

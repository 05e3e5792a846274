"""Compare our download, hashes and all, with `hf download` of the same files from the same hub.

Both sides run in turn from a hub on this machine, served by nginx, into an empty folder. The figure
is the median of the ratios of the rounds: ours / hf, in bytes a second of the whole command.
Run as `python -m benchmarks.download [--gib 2] [--rounds 5]`.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloister import nginx
from cloister.config import project_root
from cloister.ports import require_free

_MODEL = "bench/Model"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_SHARDS = 2
_PORT = 18765
_CONFIGURATION = """
worker_processes 2; pid {root}/pid; error_log {root}/error.log; daemon off;
events {{}}
http {{
    access_log off; sendfile on; client_body_temp_path {root}/t; proxy_temp_path {root}/t;
    fastcgi_temp_path {root}/t; uwsgi_temp_path {root}/t; scgi_temp_path {root}/t;
    server {{
        listen 127.0.0.1:{port};
        location /api/ {{ default_type application/json; root {root}; try_files $uri.json =404; }}
        location /{model}/resolve/{commit}/ {{
            alias {root}/files/; add_header X-Repo-Commit {commit}; etag off;
            include {root}/etags.conf;
        }}
    }}
}}
"""


def _files(folder: Path, size: int) -> dict[str, Path]:
    """Write a model of real safetensors, of `size` bytes together."""
    folder.mkdir(parents=True)
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    each = size // _SHARDS // 2 * 2
    entry = {"dtype": "BF16", "shape": [each // 2], "data_offsets": [0, each]}
    header = json.dumps({"weight": entry}).encode()
    for number in range(1, _SHARDS + 1):
        with (folder / f"model-{number:05}-of-{_SHARDS:05}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for first in range(0, each, 1 << 26):
                file.write(os.urandom(min(1 << 26, each - first)))
    return {path.name: path for path in folder.iterdir()}


def _describe(root: Path, files: dict[str, Path]) -> None:
    """Write what the hub's API answers, and every file's ETag."""
    tree, etags = [], []
    for name, path in files.items():
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        entry = {"type": "file", "path": name, "size": size, "oid": sha256[:40]}
        if path.suffix == ".safetensors":
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
        else:
            content = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % size + content)  # noqa: S324  # git's own
            sha256 = entry["oid"] = blob.hexdigest()
        tree.append(entry)
        etags.append(
            f'if ($uri ~ "/{name}$") {{ add_header ETag \'"{sha256}"\'; '
            f"add_header X-Repo-Commit {_COMMIT}; }}"
        )
    (root / "etags.conf").write_text("\n".join(etags))
    info = {"id": _MODEL, "sha": _COMMIT, "siblings": [{"rfilename": name} for name in files]}
    api = root / "api" / "models" / _MODEL
    for path, answer in (
        (api / "revision" / "main", info),
        (api / "revision" / _COMMIT, info),
        (api / "tree" / _COMMIT, tree),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(answer))


@contextmanager
def _hub(root: Path) -> Iterator[str]:
    text = _CONFIGURATION.format(root=root, port=_PORT, model=_MODEL, commit=_COMMIT)
    (root / "nginx.conf").write_text(text)
    command = [str(nginx.find(None)), "-c", str(root / "nginx.conf"), "-e", str(root / "error.log")]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{_PORT}"
    finally:
        process.terminate()
        process.wait()


def _seconds(command: list[str], url: str, folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "PYTHONPATH": str(project_root()),
    }
    os.sync()
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print every round, then the median ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.download", description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the model")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    require_free("127.0.0.1", _PORT, key="the benchmark's own")
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        root, target = Path(folder), Path(folder) / "target"
        root.chmod(0o755)  # nginx' workers are nobody
        size = int(options.gib * (1 << 30))
        _describe(root, _files(root / "files", size))
        hf = [str(Path(sys.executable).with_name("hf")), "download", _MODEL]
        hf += ["--revision", _COMMIT, "--local-dir", str(target / "hf")]
        ours = [sys.executable, "-m", "cloister.downloader", _MODEL]
        ours += ["--revision", _COMMIT, "--store", str(target)]
        ratios = []
        with _hub(root) as url:
            for number in range(options.rounds):
                pair = [("hf", hf), ("ours", ours)]
                seconds = {}
                for name, command in pair if number % 2 else reversed(pair):
                    seconds[name] = _seconds(command, url, target)
                ratios.append(seconds["hf"] / seconds["ours"])
                rates = {name: size / took / 1e6 for name, took in seconds.items()}
                print(  # noqa: T201
                    f"round {number + 1}: hf {rates['hf']:.0f} MB/s, ours {rates['ours']:.0f} MB/s"
                )
        print(f"ours / hf: {statistics.median(ratios):.2f}, median of {len(ratios)}")  # noqa: T201


if __name__ == "__main__":
    main()

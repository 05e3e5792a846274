"""Whether the gateway's own image accepts a configuration."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cloister import containers
from cloister.errors import GatewayError
from cloister.runtimes.docker.addresses import OWN, SPOOL_FOLDER

_TMPFS = "uid=10001,gid=10001,mode=0700"


def check(image: str, files: Mapping[str, str]) -> None:
    """Let nginx read its files, on no network at all; raises GatewayError if it refuses."""
    with tempfile.TemporaryDirectory(prefix="cloister-nginx-") as scratch:
        # Read by the image's user; the folder around it keeps everybody else out.
        folder = Path(scratch) / "etc"
        folder.mkdir(mode=0o755)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o644)
        with containers.explained():
            client = containers.connect()
            container = client.containers.create(
                image,
                ["-c", "/etc/cloister/nginx.conf", "-t"],
                network_mode="none",
                read_only=True,
                cap_drop=["ALL"],
                tmpfs=dict.fromkeys(("/run/cloister", str(OWN), str(SPOOL_FOLDER)), _TMPFS),
                volumes={str(folder): {"bind": "/etc/cloister", "mode": "ro"}},
            )
            with contextlib.ExitStack() as cleanup:
                cleanup.callback(container.remove, force=True)
                container.start()
                code = container.wait(timeout=30)["StatusCode"]
                output = container.logs().decode(errors="replace").strip()
    if code != 0:
        raise GatewayError(f"nginx refuses the rendered configuration:\n{output}")

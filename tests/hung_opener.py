"""The process that opens input files, with files that hang or change, as their path says.

`hung` and `drip` are on a mount whose server is gone or slow, which nobody can make without being
root; `longer`, `shorter` and `other` are written by somebody else while they are read.
"""

import importlib.util
import signal
import socket
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[1] / "cloister" / "ocr" / "opener.py"

CHANGES = {"longer": b"0123456789", "shorter": b"0", "other": b"01234"}


def main() -> None:
    spec = importlib.util.spec_from_file_location("opener", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    opener: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(opener)
    inspect = opener._inspect

    def hang(client: socket.socket, request: dict[str, Any]) -> None:
        if "hung" in request["path"]:
            signal.pause()
        while "drip" in request["path"]:
            client.send(b".")
            time.sleep(0.01)
        for name, content in CHANGES.items():
            if name in request["path"]:
                change(Path(request["path"]), content)
        inspect(client, request)

    def change(path: Path, content: bytes) -> None:
        read = opener.os.read

        def meanwhile(file: int, size: int) -> bytes:
            path.write_bytes(content)
            opener.os.read = read
            return bytes(read(file, size))

        opener.os.read = meanwhile

    opener._inspect = hang
    opener.main()


if __name__ == "__main__":
    main()

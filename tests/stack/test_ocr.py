"""`invoke ocr` as a user types it."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from deployments import ROOT, SAMPLES, Stack, eventually, program
from fpdf import FPDF
from pages import encoded, page
from PIL import Image

from cloister.corpus import generate
from cloister.scoring import cer, field_recall


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(page(text)))
    return path


@pytest.mark.parametrize("name", ["letter.png", "invoice.png", "article.png", "two-pages.pdf"])
def test_the_samples_are_read_almost_without_a_fault(stack: Stack, name: str) -> None:
    text = stack.invoke("ocr", str(SAMPLES / name)).stdout
    truth = (SAMPLES / name).with_suffix(".md").read_text()
    assert cer(truth, text) < 0.03, text


def test_the_facts_of_an_invoice_are_found(stack: Stack, tmp_path: Path) -> None:
    document = generate("invoice", seed=7)
    (tmp_path / "invoice.pdf").write_bytes(document.pdf)
    text = stack.invoke("ocr", str(tmp_path / "invoice.pdf")).stdout
    assert field_recall(document.fields, text) == 1.0, text
    assert "<table>" in text


def test_json_has_every_page_with_text_time_engine_and_reason(stack: Stack) -> None:
    (document,) = stack.json("ocr", str(SAMPLES / "two-pages.pdf"))["documents"]
    assert [item["page"] for item in document["pages"]] == [1, 2]
    for item in document["pages"]:
        assert item["text"]
        assert item["seconds"] > 0
        assert item["engine"].startswith("tesseract/")
        assert item["finish_reason"] == "stop"
        assert item["error"] is None


def test_a_folder_becomes_one_markdown_file_a_document(stack: Stack, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.png", "Alpha 2345")
    write(source, "below/b.png", "Beta 2345")
    write(source, "below/b.tiff.png", "Gamma 2345")
    (source / "notes.txt").write_text("not a document")
    stack.invoke("ocr", str(source), "--out", str(out))
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.md")}
    assert {"a.md", "below/b.md", "below/b.tiff.md"} == set(found)
    assert "Alpha 2345" in found["a.md"]
    assert "Beta 2345" in found["below/b.md"]


def test_several_paths_and_a_pattern_come_out_in_order(stack: Stack, tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        write(tmp_path, f"{name}.png", f"Letter {name} 2345")
    out = stack.invoke("ocr", str(tmp_path / "c.png"), str(tmp_path / "[ab].png")).stdout
    places = [out.index(f"Letter {name} 2345") for name in ("c", "a", "b")]
    assert places == sorted(places)


def test_a_page_that_fails_is_in_the_exit_code_and_leaves_a_mark(
    stack: Stack, tmp_path: Path
) -> None:
    write(tmp_path, "good.png", "Good 2345")
    (tmp_path / "broken.png").write_bytes(encoded(page("broken"))[:500])
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    (tmp_path / "empty.png").touch()
    locked = FPDF()
    locked.add_page()
    locked.set_encryption(owner_password="owner", user_password="user")  # noqa: S106
    locked.output(str(tmp_path / "locked.pdf"))
    done = stack.invoke("ocr", str(tmp_path), "--out", str(tmp_path / "out"), code=8)
    assert "4 of 5 pages were not read" in done.stderr
    assert "needs a password" in done.stderr
    assert "truncated" in done.stderr
    assert "Good 2345" in (tmp_path / "out" / "good.md").read_text()
    assert "was not read" in (tmp_path / "out" / "locked.md").read_text()


def test_a_text_cut_at_max_tokens_is_a_failure_that_keeps_the_text(
    stack: Stack, tmp_path: Path
) -> None:
    path = write(tmp_path, "long.png", "one two three four")
    done = stack.invoke("ocr", str(path), "--set", "ocr.max_tokens=2", code=8)
    assert "one two" in done.stdout
    assert "is incomplete" in done.stdout


def test_a_blank_page_is_read_and_said_to_be_blank(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "blank.png").write_bytes(encoded(page("")))
    done = stack.invoke("ocr", str(tmp_path / "blank.png"))
    assert "no text" in done.stdout
    assert "no text was found" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nope.png",), 8, "`nope.png` does not exist"),
        (("nope-*.png",), 8, "nothing matches"),
        (("samples/letter.png", "--dpi", "20"), 2, "ocr.dpi"),
        (("samples/letter.png", "--url", "http://127.0.0.1:9"), 8, "no service answers"),
        (("samples/letter.png", "--set", "ocr.dip=200"), 2, "ocr.dpi"),
    ],
)
def test_wrong_inputs_are_one_line_with_the_documented_code(
    stack: Stack, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = stack.invoke("ocr", *arguments, code=code)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_full_queue_is_waited_for(fresh: Stack, tmp_path: Path) -> None:
    """Twelve pages at once against room for two: each 503 comes back later."""
    fresh.invoke("up", "--set", "tesseract.workers=1", "--set", "tesseract.queue_depth=1")
    for number in range(12):
        write(tmp_path, f"{number:02}.png", f"Waiting {number} 2345")
    (worker,) = psutil.Process(fresh.pids()["tesseract-1"]).children()
    with ThreadPoolExecutor(1) as pool:
        worker.suspend()  # so that the queue is full for certain
        reading = pool.submit(fresh.json, "ocr", str(tmp_path), "--concurrency", "12")
        try:
            eventually(lambda: _assert_in('"status":503', fresh.log("access")))
        finally:
            worker.resume()
        result = reading.result()
    pages = [item for document in result["documents"] for item in document["pages"]]
    assert all(item["error"] is None for item in pages)
    assert max(item["attempts"] for item in pages) > 1


def _assert_in(text: str, log: str) -> None:
    assert text in log


def test_a_restarting_engine_costs_no_page(fresh: Stack, tmp_path: Path) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    engine = psutil.Process(fresh.pids()["tesseract-1"])
    (worker,) = engine.children()
    for number in range(12):
        write(tmp_path, f"{number}.png", f"Restarted {number} 2345")
    worker.suspend()  # so that the engine has a page for certain when it is killed
    with program(
        [sys.executable, "-m", "invoke", "ocr", str(tmp_path), "--json"],
        env=fresh.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as reading:
        eventually(lambda: fresh.assert_reading(1), within_s=120)
        engine.kill()
        with suppress(psutil.NoSuchProcess):  # it ends with its engine
            worker.kill()
        result = json.loads(reading.communicate(timeout=180)[0])
    assert reading.returncode == 0
    pages = [item for document in result["documents"] for item in document["pages"]]
    assert [item["error"] for item in pages] == [None] * 12
    assert max(item["attempts"] for item in pages) > 1, "the page that was lost was asked for again"


def test_ctrl_c_stops_without_a_traceback_and_leaves_whole_files_only(
    fresh: Stack, tmp_path: Path
) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(30):
        image = Image.open(SAMPLES / "article.png")
        image.putpixel((0, 0), 200 + number)  # no two alike, or one would do for all
        image.save(source / f"{number:02}.png", dpi=(200, 200))
    with program(
        [sys.executable, "-m", "invoke", "ocr", str(source), "--out", str(out)],
        env=fresh.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as reading:
        eventually(lambda: _assert_any(out), within_s=120)
        reading.send_signal(signal.SIGINT)
        assert reading.stderr is not None
        errors = reading.stderr.read()
    assert reading.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors
    written = list(out.glob("*.md"))
    assert len(written) < 30
    truth = (SAMPLES / "article.md").read_text()
    for path in written:
        assert cer(truth, path.read_text().partition("\n---\n")[2]) < 0.03, path


def _assert_any(folder: Path) -> None:
    assert list(folder.glob("*.md"))


def test_a_closed_pipe_is_not_a_traceback(stack: Stack) -> None:
    command = f"{sys.executable} -m invoke ocr {SAMPLES}/letter.png {SAMPLES}/article.png | head -1"
    done = subprocess.run(  # noqa: S602  # the shell's pipe is what is tested
        command,
        shell=True,
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout

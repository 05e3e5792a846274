"""Too few open files end a run with a line: no document is recorded as the one to blame."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hung_opener
import pytest

from cloister.errors import OcrError
from cloister.ocr import descriptors, openers
from cloister.ocr.documents import Document, Entry
from cloister.ocr.openers import FileLimits, Openers
from cloister.rendering import Limits
from cloister.rendering.opening import open_document
from cloister.rendering.process import Process

TIMEOUT_S = 60
FULL = "no further file can be opened"


@contextmanager
def open_files(most: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def no_further() -> Iterator[None]:
    """Let this process open nothing: a limit below what is open already takes nothing away."""
    with open_files(1):
        yield


@pytest.fixture
def opener() -> Iterator[Openers]:
    made = Openers(FileLimits())
    yield made
    made.stop()


def entry(path: Path) -> Entry:
    path.touch()
    return Entry(1, Document(path, Path(path.name)), Path("out"), None, None, None, None)


def test_a_process_that_cannot_be_started_is_no_documents_fault(
    opener: Openers, tmp_path: Path
) -> None:
    a = entry(tmp_path / "a.pdf")
    with no_further():
        error = opener.inspect(a).exception(TIMEOUT_S)
    assert isinstance(error, OcrError)
    assert FULL in error.message
    os.close(opener.inspect(a).result(TIMEOUT_S).file)  # and then it can


def test_a_descriptor_that_is_lost_on_its_way_is_no_documents_fault(
    opener: Openers, tmp_path: Path
) -> None:
    os.close(opener.inspect(entry(tmp_path / "a.pdf")).result(TIMEOUT_S).file)  # it has begun
    b = entry(tmp_path / "b.pdf")
    with no_further():
        error = opener.inspect(b).exception(TIMEOUT_S)
    assert isinstance(error, OcrError)
    assert FULL in error.message


def test_a_system_without_further_open_files_is_no_documents_fault(
    opener: Openers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    error = opener.inspect(entry(tmp_path / "full.pdf")).exception(TIMEOUT_S)
    assert isinstance(error, OcrError)
    assert os.strerror(errno.ENFILE) in error.message


def test_a_process_that_does_not_start_is_told(
    opener: Openers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", fail)
    error = opener.inspect(entry(tmp_path / "a.pdf")).exception(TIMEOUT_S)
    assert isinstance(error, OcrError)
    assert "the process that opens files does not start" in error.message


def test_a_page_for_which_no_file_can_be_opened_is_not_an_unreadable_one(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    with no_further(), pytest.raises(OcrError, match=FULL):
        open_document(tmp_path / "a.pdf")


def test_a_renderer_for_which_no_file_can_be_opened_is_told() -> None:
    with no_further(), pytest.raises(OcrError, match=FULL):
        Process(Limits())


def test_a_run_takes_as_many_open_files_as_it_may_have() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open_files(128):
        assert descriptors.most() == 128
        descriptors.raise_limit()
        assert descriptors.most() == (4_096 if hard == resource.RLIM_INFINITY else min(4_096, hard))
    with open_files(min(5_000, hard)):
        descriptors.raise_limit()
        assert descriptors.most() == min(5_000, hard)  # it takes none away

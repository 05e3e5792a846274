"""Which failures of a command under test are those of a network, and are tried again."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from downloads import is_failed_download, patiently, run_patiently

_FETCH = "E: Failed to fetch http://deb.debian.org/debian/x.deb  Connection failed"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    "printed",
    [
        _FETCH,
        "W: Some index files: Temporary failure resolving 'deb.debian.org'",
        "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'",
        "ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed out.",
        "ERROR: HTTP error 503 while getting https://files.pythonhosted.org/x.whl",
        "error: Failed to fetch: `https://pypi.org/simple/x/`",
        "  cause: error sending request for url (https://pypi.org/simple/x/)",
        "curl: (6) Could not resolve host: example.org",
    ],
)
def test_what_a_failed_download_prints_is_recognised(printed: str) -> None:
    assert is_failed_download(AssertionError(f"('bundle',): 1\n{printed}\n"))
    assert is_failed_download(
        subprocess.CalledProcessError(1, "x", stderr=f"#7 {printed}\n".encode())
    )


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Error: the image `cloister/gateway` was not built",
        "No space left on device",
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock",
    ],
)
def test_any_other_failure_is_the_commands_own(printed: str) -> None:
    tries = 0

    def fail() -> None:
        nonlocal tries
        tries += 1
        raise AssertionError(f"code 1: {printed}")

    with pytest.raises(AssertionError, match="code 1"):
        patiently()(fail)
    assert tries == 1


def run(folder: Path, stderr: str, *, failures: int) -> str:
    """Run a command that fails so often; return an x for each start."""
    script = (
        "import pathlib, sys\n"
        f"count = pathlib.Path({str(folder / 'count')!r})\n"
        "count.write_text(count.read_text() + 'x' if count.exists() else 'x')\n"
        f"sys.stderr.write({stderr!r})\n"
        f"sys.exit(len(count.read_text()) <= {failures})\n"
    )
    run_patiently([sys.executable, "-c", script])
    return (folder / "count").read_text()


def test_a_download_is_tried_again_and_each_try_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, _FETCH, failures=2) == "xxx"
    printed = capsys.readouterr().err
    assert printed.startswith(_FETCH)
    assert "try 1: a download failed" in printed
    assert "try 2: a download failed" in printed


@pytest.mark.parametrize(("stderr", "tries"), [(_FETCH, 5), ("assert False", 1)])
def test_a_command_that_keeps_failing_fails(tmp_path: Path, stderr: str, tries: int) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(tmp_path, stderr, failures=9)
    assert (tmp_path / "count").read_text() == "x" * tries

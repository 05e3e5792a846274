"""The command surface, as far as it runs without a service."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.parser import Parser

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CLOISTER_CONFIG": "/dev/null", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_task_and_every_flag_has_help() -> None:
    import tasks  # noqa: PLC0415  # Invoke's own tests of the file may fail at import

    for name in tasks.namespace.task_names:
        task = tasks.namespace[name]
        assert inspect.getdoc(task.body), name
        for argument in task.get_arguments():
            assert argument.help, f"{name}: {argument.name}"


def test_listing_imports_nothing_heavy() -> None:
    script = (
        "import sys, tasks;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " {'cloister', 'pydantic', 'rich', 'requests', 'PIL'}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def parse(*words: str) -> dict[str, object]:
    import tasks  # noqa: PLC0415  # as above

    parser = Parser(contexts=tasks.namespace.to_contexts())
    (context,) = parser.parse_argv(list(words))
    return {name: argument.value for name, argument in context.args.items()}


@pytest.mark.parametrize(
    ("words", "paths", "out"),
    [
        (("ocr", "a.pdf"), ["a.pdf"], None),
        (("ocr", "a.pdf", "b.png", "c"), ["a.pdf", "b.png", "c"], None),
        (("ocr", "a.pdf", "--out", "folder", "b.png"), ["a.pdf", "b.png"], "folder"),
        (("ocr", "--json", "status", "up"), ["status", "up"], None),
        (("ocr", "--set", "ocr.dpi=100", "a", "--set=b=c", "d"), ["a", "d"], None),
    ],
)
def test_ocr_takes_many_paths(words: tuple[str, ...], paths: list[str], out: str | None) -> None:
    parsed = parse(*words)
    assert parsed["paths"] == paths
    assert parsed["out"] == out


def test_ocr_without_a_path_is_refused() -> None:
    done = run("ocr")
    assert done.returncode == 2
    assert "there is nothing to read" in done.stderr


def test_a_flag_that_is_none_is_no_path() -> None:
    done = run("ocr", "a.pdf", "--fromat", "html")
    assert done.returncode == 1
    assert "there is no flag `--fromat`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ocr", "nope.png"), 8, "`nope.png` does not exist"),
        (("config", "--set", "gateway.prot=1"), 2, "gateway.port"),
        (("config", "--set", "replicas=many"), 2, "replicas"),
        (("up", "--replicas", "0"), 2, "replicas"),
        (("status", "--set", "gateway.address=0.0.0.0"), 2, "insecure"),
    ],
)
def test_wrong_words_end_with_their_code_and_no_traceback(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = run(*arguments, CLOISTER_STATE_DIR=str(tmp_path)[:80])
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_config_tells_where_values_come_from() -> None:
    done = run("config", "--set", "gateway.port=9001", CLOISTER_OCR_DPI="150")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert lines["gateway.port"] == ["9001", "--set"]
    assert lines["ocr.dpi"] == ["150", "CLOISTER_OCR_DPI"]
    assert lines["replicas"] == ["1", "default"]

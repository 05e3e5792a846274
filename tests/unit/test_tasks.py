"""The command surface, as far as it runs without a service."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.parser import Parser

from cloister import deployment
from cloister.chat import Reading
from cloister.config import Settings
from cloister.deployment.plan import plan

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


def test_every_command_that_is_printed_exists() -> None:
    import tasks  # noqa: PLC0415  # as above

    printed = [
        (command, f"{path.relative_to(ROOT)}:{node.lineno}")
        for folder in ("cloister", "tasks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for command in re.findall(r"\binvoke ([a-z]+(?:\.[a-z]+)*)\b(?!\.\*)", node.value)
    ]
    assert len(printed) > 100
    # By their names, and by those of groups that have a default task.
    known = {name for names in tasks.namespace.task_names.items() for name in (names[0], *names[1])}
    assert [one for one in printed if one[0] not in known] == []


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
        (("verify", "--watch", "5"), 6, "nothing is up"),
        (("verify", "--watch", "-1"), 2, "--watch -1"),
        (("verify", "--outside", "x:²"), 2, "is not a host"),
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


@pytest.mark.parametrize(("runtime", "is_warned"), [("docker", True), ("process", False)])
def test_up_warns_of_a_network_only_where_engines_are_on_one(
    runtime: str,
    is_warned: bool,  # noqa: FBT001  # a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import tasks.service  # noqa: PLC0415  # as above

    def up(settings: Settings, _: object) -> deployment.Up:
        return deployment.Up(plan(settings, 2), (), Reading("", "stop", "tesseract", 1, 0.1))

    monkeypatch.setattr(deployment, "up", up)
    monkeypatch.setenv("CLOISTER_CONFIG", "/dev/null")
    flags = [f"runtime={runtime}", "engine=tesseract", "docker.engine_network=internal"]
    tasks.service.up(Context(), set_=flags)
    assert ("text can leave" in capsys.readouterr().err) is is_warned


def test_config_tells_where_values_come_from() -> None:
    done = run("config", "--set", "gateway.port=9001", CLOISTER_OCR_DPI="150")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert lines["gateway.port"] == ["9001", "--set"]
    assert lines["ocr.dpi"] == ["150", "CLOISTER_OCR_DPI"]
    assert lines["replicas"] == ["1", "default"]

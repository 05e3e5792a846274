"""Arrows point one way, and nothing grows too large."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A module imports only from those to its left; inside a package the packages' own rules hold.
ORDER = (
    *(
        "errors",
        "cleaning",
        "sandbox",
        "endpoint",
        "sockdiag",
        "sockets",
        "folders",
        "bounded",
        "datafiles",
        "unixhttp",
        "sessions",
        "metrics",
        "spool",
        "config",
        "shell",
        "files",
        "layout",
        "statefolder",
        "scoring",
        "corpus",
        "console",
        "events",
    ),
    *(
        "inside",
        "engines",
        "modelstore",
        "downloader",
        "chat",
        "sse",
        "canary",
        "keys",
        "certificates",
        "gateway",
        "nginx",
        "ports",
    ),
    *("gpus", "hardware", "placement", "userfile"),
    *(
        "takeover",
        "containers",
        "images",
        "runtimes",
        "accesslog",
        "allowlist",
        "exporter",
        "deployment",
    ),
    *("watchdog", "autoscale", "autoscaler"),
    *(
        "models",
        "keyring",
        "bundle",
        "publishing",
        "isolation",
        "rendering",
        "output",
        "ocr",
        "machine",
    ),
    *("loadtest", "tuning", "capacity", "report", "release"),
)
MODULE_LINES, FUNCTION_LINES = 300, 40


def modules() -> list[Path]:
    return sorted((ROOT / "cloister").rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT / "cloister").with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the dotted names that a module imports, and the lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is relative"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def type_only(path: Path) -> set[int]:
    """Return the lines below `if TYPE_CHECKING:`, which import nothing when the program runs."""
    return {
        inner.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for inner in node.body
    }


def test_the_order_names_every_module() -> None:
    assert {part(path) for path in modules()} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_ones(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return
    for name, line in imported(path):
        if not name.startswith("cloister.") or line in type_only(path):
            continue
        other = name.split(".")[1]
        assert ORDER.index(other) <= ORDER.index(own), f"{path}:{line} imports {name}"


def test_only_tasks_py_imports_invoke() -> None:
    for path in modules():
        assert not any(name.split(".")[0] == "invoke" for name, _ in imported(path)), path


def test_modules_and_functions_stay_small() -> None:
    offenders = []
    for path in [*modules(), *ROOT.glob("*.py"), *ROOT.glob("tasks/*.py")]:
        text = path.read_text()
        # A noxfile is a list of sessions, which has no length of its own.
        if len(text.splitlines()) > MODULE_LINES and path.name != "noxfile.py":
            offenders.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    offenders.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    assert offenders == []

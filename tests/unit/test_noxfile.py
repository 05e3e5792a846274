"""noxfile.py: what every session gives to the programs that it runs."""

import importlib.util
import os
import re
import subprocess
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from nox import registry

ROOT = Path(__file__).parents[2]
NETWORK = ("UV_SYSTEM_CERTS", "UV_HTTP_RETRIES", "PIP_RETRIES")
EXPECTED = {
    "UV_SYSTEM_CERTS": "1",
    "NODE_USE_SYSTEM_CA": "1",
    "UV_HTTP_RETRIES": "20",
    "PIP_RETRIES": "12",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin without the variables and without sessions, and restore both."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(registry, "_REGISTRY", OrderedDict())
    for name in EXPECTED:
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what noxfile.py sets
        monkeypatch.delenv(name)


def load() -> None:
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


class Session:
    """A session that notes each program and its environment instead of running it."""

    def __init__(self, folder: Path, *posargs: str) -> None:
        self.env_dir, self.posargs = folder, posargs
        self.commands: list[tuple[str, ...]] = []
        self.virtualenv = SimpleNamespace(location=str(folder))
        self.environments: list[dict[str, str]] = []

    def run(self, *command: str, env: dict[str, str | None] | None = None, **more: Any) -> bool:
        assert more.get("include_outer_env", True)
        self.commands.append(command)
        merged = {**os.environ, **(env or {})}
        self.environments.append({key: value for key, value in merged.items() if value is not None})
        return True

    run_install = install = run

    def error(self, text: str) -> NoReturn:
        raise AssertionError(text)


def test_every_session_trusts_the_system_and_waits_for_the_network(tmp_path: Path) -> None:
    load()
    sessions = registry.get()
    assert {"lint", "unit", "clients", "requirements"} <= set(sessions)
    for name, function in sessions.items():
        session = Session(tmp_path / name, "tests/unit")
        (session.env_dir / "clients").mkdir(parents=True)
        function.func(session)
        assert session.environments, name
        for environment in session.environments:
            assert {key: environment.get(key) for key in EXPECTED} == EXPECTED, name


def test_what_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXPECTED:
        monkeypatch.setenv(name, "0")
    load()
    assert [os.environ[name] for name in EXPECTED] == ["0"] * len(EXPECTED)


@pytest.mark.parametrize(("ci", "longer"), [("", {}), ("true", {"PIP_RETRIES": "30"})])
def test_the_scripts_set_the_same(ci: str, longer: dict[str, str]) -> None:
    """But for CI, where nobody waits for pip; nox takes what the scripts have set."""
    printed = " ".join(f'"${name}"' for name in NETWORK)
    done = subprocess.run(
        ["bash", "-c", f". scripts/prerequisites.sh; echo {printed}"],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [{**EXPECTED, **longer}[name] for name in NETWORK]


@pytest.mark.parametrize(
    ("posargs", "expected"),
    [
        (["-k", "images", "--lf"], ["tests/unit", "-k", "images", "--lf"]),
        (["tests/unit/test_keys.py::test_x", "-x"], ["tests/unit/test_keys.py::test_x", "-x"]),
        ([f"{ROOT}/tests/stack"], [f"{ROOT}/tests/stack"]),
        (["tests"], ["tests"]),
        (["-x", "tests/unit"], ["-x", "tests/unit"]),
        (["-k", "tests"], ["tests/unit", "-k", "tests"]),
        (["--ignore", "tests/unit/x.py"], ["tests/unit", "--ignore", "tests/unit/x.py"]),
        (["--deselect", "tests/x.py::y"], ["tests/unit", "--deselect", "tests/x.py::y"]),
        (["--deselect=tests/x.py::y"], ["tests/unit", "--deselect=tests/x.py::y"]),
    ],
)
def test_flags_without_a_path_are_for_the_tests_of_the_session(
    tmp_path: Path, posargs: list[str], expected: list[str]
) -> None:
    load()
    session = Session(tmp_path, *posargs)
    registry.get()["unit"].func(session)
    command = session.commands[-1]
    assert list(command[command.index("suites.progress") + 1 :]) == expected


def test_a_whole_suite_is_shared_out_and_soak_wants_a_path_with_flags(tmp_path: Path) -> None:
    load()
    session = Session(tmp_path)
    registry.get()["unit"].func(session)
    assert {"tests/unit", "--numprocesses=2"} < set(session.commands[-1])
    with pytest.raises(AssertionError, match="nox -s soak -- tests/unit -k x"):
        registry.get()["soak"].func(Session(tmp_path, "-k", "x"))


@pytest.mark.parametrize(
    ("chosen", "has_clients"),
    [
        (["tests/clients/test_curl.py"], True),
        (["tests"], True),
        (["tests/unit"], False),
        (["tests/unit", "--ignore", "tests/clients"], False),
    ],
)
def test_a_soak_of_named_tests_installs_the_clients_where_these_need_them(
    tmp_path: Path, chosen: list[str], *, has_clients: bool
) -> None:
    load()
    session = Session(tmp_path, *chosen)
    (tmp_path / "clients").mkdir()
    registry.get()["soak"].func(session)
    assert any(command[0].endswith("/npm") for command in session.commands) == has_clients


def test_the_clients_are_installed_from_caches_where_these_have_all(tmp_path: Path) -> None:
    """`uv pip sync` asks the index for each package, also after the caches had all of them."""
    load()
    session = Session(tmp_path)
    (tmp_path / "clients").mkdir()
    registry.get()["clients"].func(session)
    uv = [command for command in session.commands if command[:2] == ("uv", "pip")]
    assert {command[2] for command in uv} == {"install"}
    assert [uv[-2][-2:], uv[-1][-2:]] == [
        ("requirements/clients.txt", "--offline"),
        ("-r", "requirements/clients.txt"),
    ]
    (npm,) = (command for command in session.commands if command[0].endswith("/npm"))
    assert "--prefer-offline" in npm


def test_every_session_is_in_the_table_for_contributors() -> None:
    load()
    table = re.findall(
        r"^\| `(?:\w+=1 )?nox -s ([^`]+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    described = {name for row in table for name in row.partition(" -- ")[0].split()}
    assert described == set(registry.get())

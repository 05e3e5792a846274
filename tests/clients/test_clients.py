"""The programs of docs/clients.md against a real stack: what they read, and how they fail."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from deployments import ROOT
from pages import MODEL
from programs import PAGE, Program, exported, programs
from service import OLMOCR, TEXT, Service

PROGRAMS = programs()
SECTIONS = ["curl", "OpenAI for Python", "OpenAI for Node", "LlamaIndex", "docling", "olmOCR"]
# The last of docling's, which names its model; of the others the one that gets the page whole.
WHOLE = {p.section: p for p in PROGRAMS if p.number == 1 or p.section == "docling"}

# Others try again for up to a minute when there is no connection.
IMPATIENT = {
    "OpenAI for Python": ("max_retries=5", "max_retries=0"),
    "OpenAI for Node": ("maxRetries: 5", "maxRetries: 0"),
    "LlamaIndex": ("max_retries=5", "max_retries=0"),
    "olmOCR": ("--max_server_ready_timeout 10", "--max_server_ready_timeout 1"),
}


@pytest.fixture
def theirs(request: pytest.FixtureRequest, program: Program) -> Service:
    """The service that a program talks to."""
    name = "olmocr_service" if program.section == "olmOCR" else "service"
    found: Service = request.getfixturevalue(name)
    return found


each_client = pytest.mark.parametrize("program", WHOLE.values(), ids=SECTIONS)


def test_the_page_has_all_clients() -> None:
    assert list(WHOLE) == SECTIONS


def test_the_page_exports_what_the_programs_are_given(service: Service) -> None:
    assert set(service.environment) - {"PATH", "LANG"} == set(exported())


@pytest.mark.parametrize(
    ("client", "pins", "package"),
    [
        ("OpenAI for Python", "requirements/test.txt", "openai=="),
        ("OpenAI for Node", "tests/clients/package.json", '"openai": "'),
        ("LlamaIndex `OpenAILike`", "requirements/clients.txt", "llama-index-llms-openai-like=="),
        ("docling", "requirements/clients.txt", "docling-slim=="),
        ("olmOCR", "requirements/clients.txt", "olmocr=="),
    ],
)
def test_the_versions_on_the_page_are_those_that_run(client: str, pins: str, package: str) -> None:
    (version,) = re.findall(rf"^\| {client} \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE)
    assert f"\n{package}{version}" in (ROOT / pins).read_text().replace("\n    ", "\n")


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_every_program_on_the_page_reads(program: Program, theirs: Service, folder: Path) -> None:
    done = program.run(theirs, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    if program.section == "curl":
        assert TEXT in done.stdout
    elif program.section == "olmOCR":
        assert done.stdout.strip() == TEXT
    else:
        assert done.stdout == f"{TEXT}\n"


def test_curl_gets_a_stream(service: Service, folder: Path) -> None:
    (whole, streamed) = [p for p in PROGRAMS if p.section == "curl"]
    assert '"object":"chat.completion",' in whole.run(service, folder).stdout
    lines = streamed.run(service, folder).stdout.splitlines()
    assert all(line.startswith("data: ") for line in lines if line)
    assert [line for line in lines if line][-1] == "data: [DONE]"


@each_client
def test_an_unknown_model(program: Program, theirs: Service, folder: Path) -> None:
    name = OLMOCR if program.section == "olmOCR" else MODEL
    done = program.changed((name, "gpt-4")).run(theirs, folder)
    assert_refused(done, program, "NotFoundError", 404, "model_not_found")


@each_client
def test_a_page_that_is_too_large(program: Program, theirs: Service, large: Path) -> None:
    done = program.run(theirs, large)
    name = "APIError" if program.language == "javascript" else "APIStatusError"
    assert_refused(done, program, name, 413, "request_too_large")


@each_client
def test_a_wrong_key(program: Program, theirs: Service, folder: Path) -> None:
    done = impatient(program).run(replace(theirs, key="sk-wrong"), folder)
    assert_refused(done, program, "AuthenticationError", 401, "invalid_api_key")


@each_client
def test_without_the_authority_no_page_is_sent(
    program: Program, theirs: Service, folder: Path
) -> None:
    done = impatient(program).run(replace(theirs, authority=None), folder)
    assert done.returncode != 0
    assert TEXT not in done.stdout
    # olmOCR keeps the reason to itself.
    reason = "did not become ready" if program.section == "olmOCR" else "certificate"
    assert reason in done.stderr.lower()


def impatient(program: Program) -> Program:
    return program.changed(*filter(None, [IMPATIENT.get(program.section)]))


def assert_refused(
    done: subprocess.CompletedProcess[str], program: Program, name: str, status: int, code: str
) -> None:
    """Assert that a client failed, and told its user why."""
    # olmOCR asks for the models first.
    olmocr = "Unexpected status code 401" if status == 401 else f"Server returned {status} for "
    ended, words = {
        "curl": (22, f'"code":"{code}"'),
        "docling": (1, f"HTTP {status}: "),
        "olmOCR": (1, olmocr),
    }.get(program.section, (1, f"{name}: {code}: "))
    assert done.returncode == ended, done.stdout + done.stderr
    assert words in done.stdout + done.stderr

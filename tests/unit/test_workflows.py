"""The workflows of GitHub: what they may do, and that a person can do the same by hand."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloister.errors import ImageError
from cloister.images import jobs
from cloister.images.catalogue import Image, catalogue

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").iterdir())
NAMES = ("images.yaml", "publish.yaml", "rebuild.yaml", "test.yaml")
PINNED = re.compile(
    r"^\s*(?:- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+( # zizmor: .*)?$"
)
# As root, with the Python that the job chose; then a program of ours, as a person types it.
ALLOWED = re.compile(
    r'^(sudo env "PATH=\$PATH" )?(\.venv/bin/(invoke|nox) |\./scripts/[\w-]+\.sh|\.ci/run$)'
)
WRITES = {
    "test.yaml": {},
    "images.yaml": {},
    "publish.yaml": {"publish": {"packages", "id-token"}},
    "rebuild.yaml": {"propose": {"contents", "pull-requests"}},
}


def load(name: str) -> dict[str, Any]:
    # YAML 1.1 makes of the key `on` a truth.
    loaded = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return {"on" if key is True else str(key): value for key, value in loaded.items()}


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in load(name)["jobs"].values():
        yield from job["steps"]


def commands(name: str) -> list[str]:
    """Return every line that a workflow gives to a shell."""
    return [line for step in steps(name) for line in step.get("run", "").splitlines() if line]


def invoked() -> Iterator[tuple[str, list[str]]]:
    """Yield the words after `invoke`, without where its output goes."""
    for name in NAMES:
        for line in commands(name):
            words = shlex.split(line.partition(" >> ")[0])
            if words[0] == ".venv/bin/invoke":
                yield name, words[1:]
    text = (ROOT / "docs" / "publishing-ci.md").read_text(encoding="utf-8")
    for line in re.findall(r"^(?:[$ -]*|images=\"\$\()invoke ([^#|&;)\n]*)", text, re.MULTILINE):
        yield "publishing-ci.md", [word for word in shlex.split(line) if word != "||"]


def test_there_are_these_workflows() -> None:
    assert tuple(path.name for path in FILES) == NAMES


def test_the_matrix_is_images_yaml() -> None:
    written = yaml.safe_load((ROOT / "images" / "images.yaml").read_text(encoding="utf-8"))
    wanted = [
        (name, platform, entry.get("engine"))
        for name, entry in written.items()
        for platform in entry["platforms"]
    ]
    made = jobs.matrix(catalogue())["include"]
    assert [(job["image"], job["platform"], job["engine"]) for job in made] == wanted
    assert json.loads(json.dumps(made)) == made
    assert {job["runner"] for job in made} == {"ubuntu-24.04", "ubuntu-24.04-arm"}
    assert all(
        (job["platform"] == "linux/arm64") == str(job["runner"]).endswith("-arm") for job in made
    )


def test_a_release_has_one_job_an_image() -> None:
    made = jobs.matrix(catalogue(), "linux/amd64")["include"]
    assert [job["image"] for job in made] == list(catalogue())
    assert ".venv/bin/invoke images.matrix --platform linux/amd64 --github" in " ".join(
        commands("publish.yaml")
    )


@pytest.mark.parametrize("name", ["images.yaml", "publish.yaml", "rebuild.yaml"])
def test_no_workflow_has_a_list_of_images_of_its_own(name: str) -> None:
    (makes,) = [
        key
        for key, job in load(name)["jobs"].items()
        if any("images.matrix" in step.get("run", "") for step in job["steps"])
    ]
    assert load(name)["jobs"][makes]["outputs"] == {"matrix": "${{ steps.images.outputs.matrix }}"}
    (matrix,) = [job["strategy"] for job in load(name)["jobs"].values() if "strategy" in job]
    assert matrix["matrix"] == f"${{{{ fromJSON(needs.{makes}.outputs.matrix) }}}}"
    assert matrix["fail-fast"] is False
    text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    assert not [image for image in catalogue() if re.search(rf"[ /]{image}\b", text)]


def image(**changed: Any) -> Image:
    fields = {"name": "x", "description": "", "dockerfile": "x", "base": "b"}
    return Image(**{**fields, "platforms": ("linux/amd64",), **changed})


def test_platforms_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        ImageError, match="no image is built for `linux/arm64`; there are linux/amd64"
    ):
        jobs.matrix({"x": image()}, "linux/arm64")
    with pytest.raises(ImageError, match="no runner builds for `linux/s390x`"):
        jobs.matrix({"x": image(platforms=("linux/s390x",))})


def test_too_little_space_is_an_error_before_the_build() -> None:
    folder = Path("/var/lib/docker")
    assert jobs.judged(image(), folder, 5_000_000_000) == "/var/lib/docker has 5 GB free; x takes 5"
    with pytest.raises(ImageError, match="has 14 GB free; x takes 50"):
        jobs.judged(image(engine="cuda"), folder, 14_000_000_000)
    with pytest.raises(ImageError, match="takes 20"):
        jobs.judged(image(engine="cpu"), folder, 14_000_000_000)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_hash_and_says_its_version(path: Path) -> None:
    used = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not PINNED.match(line)] == []


def test_an_action_has_one_pin() -> None:
    pins = {step["uses"] for name in NAMES for step in steps(name) if "uses" in step}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_can_be_done_by_hand(name: str) -> None:
    assert commands(name)
    assert [line for line in commands(name) if not ALLOWED.match(line)] == []
    # A chain would be a program that no person has.
    assert [line for line in commands(name) if re.search(r"[|;&`]|\$\(", line)] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_others_gets_into_a_shell(name: str) -> None:
    assert [line for line in commands(name) if "${{" in line] == []


def test_every_command_is_one_that_invoke_knows() -> None:
    lines = [words for _, words in invoked()]
    sources = {"images.yaml", "publish.yaml", "publishing-ci.md", "rebuild.yaml"}
    assert {name for name, _ in invoked()} == sources
    # In a process of its own: a task that was parsed once has lost its help texts.
    script = (
        "import json, sys, tasks; from invoke.parser import Parser\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    Parser(contexts=tasks.namespace.to_contexts()).parse_argv(words)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_job_may_read_and_nothing_else_unless_it_has_to(name: str) -> None:
    assert load(name)["permissions"] == {}
    found = {}
    for key, job in load(name)["jobs"].items():
        assert "permissions" in job, key
        assert set(job["permissions"].values()) <= {"read", "write"}
        written = {scope for scope, level in job["permissions"].items() if level == "write"}
        if written:
            found[key] = written
        assert "timeout-minutes" in job, key
    assert found == WRITES[name]


def test_what_builds_may_not_write_the_repository() -> None:
    for name in NAMES:
        for key, job in load(name)["jobs"].items():
            builds = any(" images.build" in step.get("run", "") for step in job["steps"])
            assert not (builds and job["permissions"].get("contents") == "write"), (name, key)


@pytest.mark.parametrize("name", NAMES)
def test_no_checkout_keeps_its_token(name: str) -> None:
    checkouts = [step for step in steps(name) if "actions/checkout@" in step.get("uses", "")]
    assert len(checkouts) == len(load(name)["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_token_comes_after_the_build_and_to_one_step() -> None:
    order = [step["name"] for step in steps("publish.yaml") if "run" in step]
    assert order.index("Build") < order.index("Look into it") < order.index("Log in")
    for name in NAMES:
        text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
        assert "secrets." not in text
        assert text.count("github.token") == (1 if name == "publish.yaml" else 0)


def test_triggers() -> None:
    assert load("publish.yaml")["on"] == {"push": {"tags": ["v*"]}}
    assert set(load("rebuild.yaml")["on"]) == {"schedule", "workflow_dispatch"}
    assert (
        set(load("test.yaml")["on"]) == set(load("images.yaml")["on"]) == {"push", "pull_request"}
    )
    # It would run the code of strangers with rights of ours.
    assert not [path for path in FILES if "pull_request_target" in path.read_text(encoding="utf-8")]


def test_a_publish_is_never_cancelled() -> None:
    # Of several that wait in one group GitHub cancels all but the last: a group is one tag's.
    assert load("publish.yaml")["concurrency"] == {
        "group": "publish-${{ github.ref }}",
        "cancel-in-progress": False,
    }


def test_no_workflow_names_a_host_but_the_registry() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\b[\w-]+\.(?:io|com|org|net|dev|internal|local)\b", text)) <= {
            "ghcr.io"
        }


@pytest.mark.parametrize("registry", ["ghcr.io/owner/cloister", "registry.example:5000"])
def test_the_login_gives_the_token_to_the_host_by_its_input(tmp_path: Path, registry: str) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat >{tmp_path}/input\n')
    client.chmod(0o755)
    given = {"DOCKER": str(client), "REGISTRY_USER": "me", "REGISTRY_TOKEN": "a token"}
    done = login(registry, environment=given)
    assert done.returncode == 0, done.stderr
    host = registry.partition("/")[0]
    assert (tmp_path / "arguments").read_text() == f"login --username me --password-stdin {host}\n"
    assert (tmp_path / "input").read_text() == "a token"


@pytest.mark.parametrize("arguments", [(), ("--what",), ("ghcr.io/owner",)])
def test_a_login_without_what_it_needs_is_refused(arguments: tuple[str, ...]) -> None:
    done = login(*arguments, environment={"REGISTRY_USER": "me"})
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


def login(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "registry-login.sh", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

"""Lists, layouts and answers of registries that mean no good: each a line and a code."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bounds import bounded

from cloister import shell
from cloister.publishing import cosign, layout, proof, provenance, sbom, scan, tools
from cloister.publishing.registry import Repository

REPOSITORY = Repository("127.0.0.1:1/cloister/gateway")
DIGEST = "sha256:" + "0" * 64
TRUST = cosign.Trust(key="cosign.pub")
JSON: dict[str, Callable[[], str]] = {
    "a million brackets": lambda: "[" * 1_000_000,
    "a million mappings": lambda: '{"a":' * 1_000_000,
    "ten million values": lambda: f"[{'1,' * 10_000_000}1]",
    "136 MiB": lambda: " " * (136 << 20),
    "a number of a million digits": lambda: "1" * 1_000_000,
    "a name that is there twice": lambda: '{"a": 1, "a": 2}',
    "a list": lambda: "[7]",
    "a number": lambda: "7",
    "nothing": lambda: "",
    "half of it": lambda: '{"components": [',
    "other kinds": lambda: json.dumps(
        {"components": [7], "manifests": [7], "Tags": 7, "payload": 7, "matches": [7]}
    ),
    "other names": lambda: '{"manifests": [{}], "payload": "e30=", "matches": [{}]}',
}


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let every program print a text, and whatever it writes hold the same."""

    def run(program: str, *arguments: str, **_: object) -> shell.Result:
        assert program
        for word in arguments:
            if word.startswith("--output="):
                Path(word.rpartition("=")[2]).write_text(text)
        return shell.Result(0, text, "")

    monkeypatch.setattr(tools, "run", run)
    monkeypatch.setattr(shell, "find", lambda program, *_: Path(program))


READERS: dict[str, Callable[[Path, str], object]] = {
    "what syft lists": lambda folder, _: sbom.write(layout.Layout(folder, DIGEST, 1), "x", folder),
    "tags": lambda _, __: REPOSITORY.tags(),
    "an attestation": lambda _, __: _required(
        cosign.attested(TRUST, REPOSITORY, DIGEST, "cyclonedx")
    ),
    "what a scanner prints": lambda folder, _: scan.check(folder / "x", "high"),
    "an index": lambda folder, text: _annotated(folder, index=text),
    "a manifest": lambda folder, text: _annotated(folder, manifest=text),
}


def _required(attested: tuple[Any, str]) -> object:
    assert attested[0] is not None, "cosign proved it"
    return attested


def _annotated(folder: Path, index: str | None = None, manifest: str | None = None) -> object:
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / ("0" * 64)).write_text('{"layers": []}' if manifest is None else manifest)
    entry = {"manifests": [{"digest": DIGEST}]}
    (folder / "index.json").write_text(json.dumps(entry) if index is None else index)
    return layout.annotated(folder, {})


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("name", READERS)
def test_hostile_json_of_a_registry_is_a_line_and_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    def read() -> object:
        text = JSON[kind]()
        if name == "an attestation" and not text.startswith("{"):
            text = json.dumps({"payload": _packed(text)})
        says(monkeypatch, text)
        return READERS[name](tmp_path, text)

    assert bounded(read)


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("digest", ["sha256:../../../victim", "../victim", "sha256:", 7, None])
def test_a_digest_that_is_none_names_no_file(tmp_path: Path, digest: object) -> None:
    victim = tmp_path / "victim"
    victim.write_text('{"layers": []}')
    folder = tmp_path / "layout"
    index = json.dumps({"manifests": [{"digest": digest}]})
    assert "digest" in bounded(lambda: _annotated(folder, index=index))
    assert victim.exists()


@pytest.mark.parametrize("size", [-1, "7", None, 10**400])
def test_a_layer_of_no_size_is_refused(tmp_path: Path, size: object) -> None:
    manifest = json.dumps({"layers": [{"size": size}]})
    assert bounded(lambda: _annotated(tmp_path, manifest=manifest))


def test_a_manifest_of_any_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> object:
        says(monkeypatch, " " * (5 << 20))
        return REPOSITORY.manifest(DIGEST)

    assert "4,194,304 bytes" in bounded(read)


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("cyclonedx", 7),
        ("cyclonedx", {"components": 7}),
        ("cyclonedx", {"components": [7]}),
        (provenance.KIND, 7),
        (provenance.KIND, {"buildDefinition": 7}),
        (provenance.KIND, {"buildDefinition": {"resolvedDependencies": [7]}}),
        (provenance.KIND, {"runDetails": {"builder": 7}}),
    ],
)
def test_a_statement_of_other_kinds_is_a_line(kind: str, stated: Any) -> None:
    whole: dict[str, Any] = {name: {} for name in proof.KINDS}
    assert proof.told("x", DIGEST, "key", whole).packages == 0
    assert bounded(lambda: proof.told("x", DIGEST, "key", whole | {kind: stated}))


def test_what_programs_print_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, json.dumps({"components": [{"type": "library"}]}))
    sbom.write(layout.Layout(tmp_path, DIGEST, 1), "x", tmp_path)
    assert (tmp_path / "cyclonedx.json").exists()
    says(monkeypatch, '{"Tags": ["1.0.0", "latest"]}')
    assert REPOSITORY.tags() == ("1.0.0", "latest")
    says(monkeypatch, json.dumps({"payload": _packed('{"predicate": {"a": 1}}')}) + "\n")
    assert cosign.attested(TRUST, REPOSITORY, DIGEST, "cyclonedx") == ({"a": 1}, "")

"""Publishing, as it is planned: tags, provenance, records, gates, and what is refused at once."""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cloister import images
from cloister.errors import PublishError
from cloister.publishing import (
    cosign,
    layout,
    outcome,
    proof,
    provenance,
    records,
    scan,
    steps,
    tagging,
    tools,
)
from cloister.publishing.registry import parsed, repository
from cloister.shell import Result

OURS, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAGS = images.Tags(("sha-0123456789ab", "1.4.0"), ("latest", "1.4", "1", "nginx-1.26.3"))
GITHUB = {
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_WORKFLOW_REF": "owner/cloister/.github/workflows/publish.yaml@refs/tags/v1.4.0",
    "GITHUB_REPOSITORY": "owner/cloister",
    "GITHUB_RUN_ID": "7",
}


def decide(
    present: Mapping[str, str] | None = None, there: tuple[str, ...] = (), version: str = "1.4.0"
) -> tagging.Decision:
    return tagging.decide(TAGS, OURS, present or {}, there, version)


def test_tags_that_stay_are_set_before_those_that_move() -> None:
    assert decide() == tagging.Decision((*TAGS.fixed, *TAGS.moving), (), ())


def test_what_is_there_is_kept_and_the_rest_is_set() -> None:
    decision = decide({"sha-0123456789ab": OURS, "latest": OTHER})
    assert decision.kept == ("sha-0123456789ab",)
    assert decision.write == ("1.4.0", "latest", "1.4", "1", "nginx-1.26.3")
    everything = dict.fromkeys((*TAGS.fixed, *TAGS.moving), OURS)
    assert decide(everything).write == ()


@pytest.mark.parametrize("tag", TAGS.fixed)
def test_a_tag_that_stays_is_never_taken_from_another_image(tag: str) -> None:
    with pytest.raises(PublishError, match=f"`{re.escape(tag)}` stays, and is there for {OTHER}"):
        decide({tag: OTHER})


def test_nothing_moves_back_to_an_older_release() -> None:
    assert decide(there=("1.4.1", "1.3.9", "sha-1", "latest")).held == ("latest", "1.4", "1")
    assert decide(there=("1.10.0",)).held == ("latest", "1")
    assert decide(there=("2.0.0",)).held == ("latest",)
    assert decide(there=("1.5.0rc1", "1.4.0", "2.0.0-model-89abcdef")).held == ()


def test_a_tag_of_a_fact_that_a_newer_release_may_have_is_left() -> None:
    assert "nginx-1.26.3" in decide(there=("2.0.0",)).write
    assert "nginx-1.26.3" in decide({"nginx-1.26.3": OTHER}, ("2.0.0",)).held
    assert "nginx-1.26.3" in decide({"nginx-1.26.3": OTHER}, ("1.3.0",)).write


def test_a_tag_that_stays_is_looked_at_again_before_it_is_written() -> None:
    written = tagging.apply(decide(), TAGS.fixed, OURS, {"1.4.0": OTHER}.get)
    assert next(written) == "sha-0123456789ab"
    with pytest.raises(PublishError, match=r"`1\.4\.0` stays"):
        next(written)


def built(base: str = f"debian:trixie-slim@{OURS}") -> provenance.Built:
    moment = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.UTC)
    return provenance.Built(
        image="gateway",
        dockerfile="images/gateway/Dockerfile",
        base=base,
        revision=COMMIT,
        arguments={"BASE": base, "SOURCE_DATE_EPOCH": "1700000000"},
        began=moment,
        ended=moment + dt.timedelta(seconds=61),
    )


def test_the_provenance(golden: Callable[[str, str], None]) -> None:
    origin = provenance.origin(GITHUB, "https://github.example/owner/cloister")
    golden("provenance.json", json.dumps(provenance.predicate(built(), origin), indent=1) + "\n")


@pytest.mark.parametrize(
    ("environ", "builder"),
    [
        ({}, "urn:cloister:by-hand"),
        (GITHUB, f"https://github.example/{GITHUB['GITHUB_WORKFLOW_REF']}"),
        (
            {"GITLAB_CI": "true", "CI_CONFIG_REF_URI": "gitlab.example/a//.gitlab-ci.yml@main"},
            "https://gitlab.example/a//.gitlab-ci.yml@main",
        ),
    ],
)
def test_who_builds(environ: Mapping[str, str], builder: str) -> None:
    assert provenance.origin(environ, "").builder == builder


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://name:secret@git.example/a/b.git", "git+https://git.example/a/b.git"),
        ("git@git.example:a/b.git", "git"),
        ("/home/somebody/cloister", "git"),
        ("", "git"),
    ],
)
def test_neither_a_token_nor_a_path_of_this_machine_gets_into_the_provenance(
    remote: str, source: str
) -> None:
    assert provenance.origin({}, remote).source == source


def test_a_base_without_a_digest_has_none_in_the_provenance() -> None:
    made = provenance.predicate(
        built("cloister-base/debian:trixie-slim"), provenance.origin({}, "")
    )
    assert "digest" not in provenance.material(made, "base")
    assert provenance.material(made, "source")["digest"] == {"gitCommit": COMMIT}
    assert provenance.material({}, "base") == {}


def test_what_was_proven_is_what_the_attestations_say() -> None:
    stated = {
        "cyclonedx": {"components": [{"type": "library"}, {"type": "operating-system"}]},
        "spdxjson": {},
        provenance.KIND: provenance.predicate(built(), provenance.origin({}, "")),
    }
    told = proof.told("r@d", "d", "key k", stated)
    assert (told.image, told.revision, told.packages) == ("gateway", COMMIT, 1)
    assert (told.base, told.base_digest) == ("debian:trixie-slim", OURS)
    nothing = proof.told("r@d", "d", "key k", {"cyclonedx": {}, provenance.KIND: {}})
    assert (nothing.revision, nothing.base_digest) == ("", None)


def test_a_record_is_read_again_and_a_broken_one_is_none(tmp_path: Path) -> None:
    moment = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
    record = records.Record(id=OURS, began=moment, ended=moment, facts={"nginx": "1"}, digest=OTHER)
    where = records.folder(tmp_path, "gateway", OURS)
    assert where == tmp_path / "gateway-aaaaaaaaaaaa"
    assert records.read(where, OURS) is None
    records.write(where, record)
    assert records.read(where, OURS) == record
    assert records.read(where, OTHER) is None
    (where / "record.json").write_text("{")
    assert records.read(where, OURS) is None


def test_the_manifest_has_the_tags_that_were_there_and_not_those_of_something_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = images.Facts("", OURS, 1, "1", 1, (), (), (), "", (), {}, (), ())
    monkeypatch.setattr(images, "inspect", lambda *_: found)
    terms = steps.Terms(
        mock.Mock(), tmp_path, released=True, signer=None, fail_on="none", say=print
    )
    moment = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
    passage = steps.Passage(
        terms=terms,
        build=images.Build(images.catalogue()["gateway"], "cloister/gateway:1", "debian", ()),
        repository=repository("ghcr.io/owner/cloister", "gateway"),
        identity=OURS,
        revision=COMMIT,
        record=records.Record(
            id=OURS, began=moment, ended=moment, facts={"nginx": "1.26.3"}, digest=OTHER
        ),
    )
    (sha, version), (latest, *others) = passage.tags
    outcome.write(tmp_path, passage, tagging.Decision((version, *others), (sha,), (latest,)))
    text = (tmp_path / "gateway.md").read_text()
    assert f"| tags that stay | `{sha}`, `{version}` |" in text
    assert f"| tags that move | {', '.join(f'`{tag}`' for tag in others)} |" in text


@pytest.mark.parametrize(
    ("registry", "plain"),
    [
        ("127.0.0.1:5000/org", True),
        ("localhost:5000", True),
        ("[::1]:5000/org", True),
        ("ghcr.io/owner/cloister", False),
        ("localhost.example.org/org", False),
        ("127.0.0.1.example.org/org", False),
        ("registry:5000/org", False),
    ],
)
def test_only_this_machine_is_spoken_to_in_plain_http(registry: str, *, plain: bool) -> None:
    assert repository(registry, "gateway").plain is plain


@pytest.mark.parametrize("registry", ["cloister", "owner/cloister", "ghcr.io/A", "ghcr.io/a b", ""])
def test_what_names_no_registry_is_refused(registry: str) -> None:
    with pytest.raises(PublishError, match="is no registry"):
        repository(registry, "gateway")


def test_references() -> None:
    assert parsed("r.example:5000/org/gateway:1.4.0")[1] == "1.4.0"
    where, digest = parsed(f"r.example/org/gateway:1.4.0@{OURS}")
    assert (where.name, digest) == ("r.example/org/gateway", OURS)
    for wrong in ("gateway", "gateway:1", "r.example/org/gateway"):
        with pytest.raises(PublishError, match="names no image of a registry"):
            parsed(wrong)


def test_a_layer_that_registries_refuse_is_refused_before_they_do() -> None:
    layout.require_small({"layers": [{"size": 10_000_000_000}]})
    with pytest.raises(PublishError, match=r"layer 2 is 12\.5 GB.* 10 at most") as refused:
        layout.require_small({"layers": [{"size": 1}, {"size": 12_500_000_000}]})
    assert "smaller safetensors shards" in str(refused.value.hint)


GRYPE = {
    "matches": [
        {
            "vulnerability": {
                "id": "CVE-1",
                "severity": "High",
                "fix": {"versions": ["2.1"], "state": "fixed"},
            },
            "artifact": {"name": "zlib", "version": "2.0"},
        },
        {
            "vulnerability": {"id": "CVE-2", "severity": "Critical", "fix": {"versions": []}},
            "artifact": {"name": "perl", "version": "5"},
        },
    ]
}
TRIVY = {
    "Results": [
        {
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-1",
                    "PkgName": "zlib",
                    "InstalledVersion": "2.0",
                    "FixedVersion": "2.1",
                    "Severity": "HIGH",
                },
                {
                    "VulnerabilityID": "CVE-2",
                    "PkgName": "perl",
                    "InstalledVersion": "5",
                    "Severity": "CRITICAL",
                },
            ]
        },
        {"Target": "clean"},
    ]
}


@pytest.mark.parametrize(("program", "report"), [("grype", GRYPE), ("trivy", TRIVY)])
def test_the_gate_refuses_what_has_a_fix(program: str, report: dict[str, Any]) -> None:
    found = tuple(sorted(scan.findings(program, report)))
    assert {each.id for each in found} == {"CVE-1", "CVE-2"}
    with pytest.raises(PublishError, match=r"found 1 .*: CVE-1 in zlib 2\.0, mended in 2\.1"):
        scan.judged(program, found, "high")
    assert "found 2, none of severity critical" in scan.judged(program, found, "critical")
    scan.judged(program, found, "none")


def test_a_key_or_what_ci_says_of_us_or_nothing(tmp_path: Path) -> None:
    token = {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"}
    assert cosign.identity(GITHUB) is None
    trust = cosign.identity({**GITHUB, **token})
    assert trust is not None
    assert trust.identity == f"https://github.example/{GITHUB['GITHUB_WORKFLOW_REF']}"
    assert "--insecure-ignore-tlog=true" not in trust.flags
    assert "--insecure-ignore-tlog=true" in cosign.Trust(key="cosign.pub").flags
    with pytest.raises(PublishError, match="nothing to sign with"):
        cosign.signer(None, {}, tmp_path)
    with pytest.raises(PublishError, match="there is no key"):
        cosign.signer(str(tmp_path / "cosign.key"), {}, tmp_path)


def test_a_failed_program_is_told_by_its_last_line() -> None:
    line = 'time="2026" level=fatal msg="pinging \\"r\\": connection refused"'
    assert tools.why(Result(1, "", f"noise\n{line}\n")) == 'pinging "r": connection refused'
    said = "Error: x\nerror during command execution: decrypt failed\n"
    assert tools.why(Result(1, "", said)) == "decrypt failed"
    assert tools.why(Result(3, "", "")) == "it ended with code 3"

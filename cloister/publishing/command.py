"""`invoke images.publish` and `images.verify`."""

import datetime as dt
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloister import console, containers, images
from cloister.config import Settings
from cloister.errors import PublishError
from cloister.images import lock as locks
from cloister.publishing import checkout, cosign, outcome, proof, records, registry, scan, tools
from cloister.publishing.steps import Passage, Terms, passage_of
from cloister.statefolder import locked

_WAIT_S = 1.0  # for another publish of this checkout, which would take hours


@dataclass(frozen=True)
class Request:
    """What `invoke images.publish` was asked for."""

    registry: str
    image: str | None = None
    engine: str | None = None
    key: str | None = None
    unsigned: bool = False
    release: bool = False
    local: bool = False
    out: Path | None = None
    fail_on: str = "high"


def publish(settings: Settings, request: Request, *, dry_run: bool, as_json: bool) -> None:
    """Publish every image that is asked for, or tell what would be done.

    All of them are built, tested, pushed and signed before the first one is tagged.
    """
    _require(request)
    root = settings.state_dir / "publish"
    with locked(root / "lock", wait_s=_WAIT_S), console.steps() as say, containers.explained():
        terms = Terms(
            client=containers.connect(),
            root=root,
            released=request.release,
            signer=None if request.unsigned else cosign.signer(request.key, os.environ, root),
            fail_on=request.fail_on,
            say=say,
        )
        builds = _builds(settings, request)
        for build in builds:  # a registry that is away is told before an hour of building
            registry.repository(request.registry, build.image.name).tags()
        told = _planned(terms, builds, request) if dry_run else _published(terms, builds, request)
    outcome.tell(told, as_json=as_json)


def verify(reference: str, trust: cosign.Trust, *, as_json: bool) -> None:
    """Prove that an image is what its publisher signed, and tell what was proven."""
    keyless = (trust.identity, trust.issuer)
    if any(keyless) if trust.key else not all(keyless):
        raise PublishError(
            "whose signature is to count? --key, or --identity and --issuer",
            hint="invoke images.verify REF --key cosign.pub",
        )
    repository, wanted = registry.parsed(reference)
    digest = wanted if wanted.startswith("sha256:") else repository.digest(wanted)
    if digest is None:
        raise PublishError(f"`{reference}` is not there")
    found = proof.prove(repository, digest, trust)
    if as_json:
        console.dump(found)
    else:
        rows = [(name.replace("_", " "), value) for name, value in asdict(found).items()]
        console.table(("proven", "value"), rows)


def _require(request: Request) -> None:
    """Refuse at once what would be refused an hour later."""
    if request.fail_on not in scan.SEVERITIES:
        raise PublishError(f"--fail-on takes {', '.join(scan.SEVERITIES)}, not `{request.fail_on}`")
    if request.unsigned and request.key:
        raise PublishError("--key and --unsigned contradict each other")
    for program in ("skopeo", "syft"):
        tools.path(program)
    checkout.require(released=request.release)


def _builds(settings: Settings, request: Request) -> tuple[images.Build, ...]:
    options = images.Options(image=request.image, engine=request.engine, local=request.local)
    return images.plan_builds(
        options,
        settings.docker,
        images.source(),
        lock=locks.read(),
        authority=images.authority(),
    )


def _published(
    terms: Terms, builds: tuple[images.Build, ...], request: Request
) -> list[dict[str, Any]]:
    passages = [_built(terms, build, request) for build in builds]
    for passage in passages:
        passage.adopt()
        passage.test()
        passage.export()
        passage.push()
        passage.sign()
    told = []
    for passage in passages:
        decision = passage.tag()
        console.say(f"published {passage.repository.at(passage.digest)}")
        if request.out is not None:
            outcome.write(request.out, passage, decision)
        told.append(outcome.told(passage, decision))
    return told


def _built(terms: Terms, build: images.Build, request: Request) -> Passage:
    began = dt.datetime.now(dt.UTC)
    images.build(build, terms.say)
    made = passage_of(terms, build, request.registry, began)
    records.write(made.folder, made.record)
    return made


def _planned(
    terms: Terms, builds: tuple[images.Build, ...], request: Request
) -> list[dict[str, Any]]:
    now, revision = dt.datetime.now(dt.UTC), images.source().revision
    told = []
    for build in builds:
        repository, passage = registry.repository(request.registry, build.image.name), None
        if terms.client.images.list(build.reference):
            passage = passage_of(terms, build, request.registry, now)
            if passage.strange():  # of another commit, or on another base
                passage = None
        told.append(outcome.planned(terms, build.image, repository, revision, passage))
    return told

"""One image on its way into a registry, a step after the other; what is done is not done again."""

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import docker

import cloister
from cloister import images
from cloister.errors import ImageError, PublishError
from cloister.files import write_atomically
from cloister.images.catalogue import LABEL
from cloister.publishing import (
    checkout,
    cosign,
    layout,
    proof,
    provenance,
    records,
    sbom,
    scan,
    tagging,
)
from cloister.publishing.registry import Repository, repository

_PROVENANCE = "provenance.json"
STATED = {**sbom.FILES, provenance.KIND: _PROVENANCE}
_MB = 1_000_000


@dataclass(frozen=True)
class Terms:
    """What holds for every image of one publish; without a `signer` none is signed."""

    client: docker.DockerClient
    root: Path
    released: bool
    signer: cosign.Signer | None
    fail_on: str
    say: Callable[[str], None]


def passage_of(terms: Terms, build: images.Build, where: str, began: dt.datetime) -> "Passage":
    """Return the way of an image that is built into the registry `where`, as far as it got."""
    # From here on by its id: the tag may be another build's before this one is pushed.
    identity = str(terms.client.images.get(build.reference).id)
    folder = records.folder(terms.root, build.image.name, identity)
    fresh = records.Record(id=identity, began=began, ended=dt.datetime.now(dt.UTC))
    return Passage(
        terms=terms,
        build=build,
        repository=repository(where, build.image.name),
        identity=identity,
        revision=images.source().revision,
        record=records.read(folder, identity) or fresh,
    )


def tags_of(
    image: images.Image, facts: Mapping[str, str], revision: str, *, released: bool
) -> images.Tags:
    """Return the tags of an image of this version, those of its facts as far as they are known."""
    known = tuple(fact for fact in image.facts if fact.name in facts)
    image = image.model_copy(update={"facts": known})
    return images.tags(image, facts, cloister.VERSION, revision, released=released)


def decide(repository: Repository, tags: images.Tags, digest: str) -> tagging.Decision:
    """Return what is to be done about the tags, after a look at the registry."""
    present = {tag: repository.digest(tag) for tag in (*tags.fixed, *tags.moving)}
    return tagging.decide(tags, digest, present, repository.tags(), cloister.VERSION)


@dataclass
class Passage:
    """One built image, known by `identity` and by nothing that could move."""

    terms: Terms
    build: images.Build
    repository: Repository
    identity: str
    revision: str
    record: records.Record
    adopted: bool = False
    scanned: str = ""
    done: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where its record is, and what was made of it."""
        return records.folder(self.terms.root, self.build.image.name, self.record.id)

    @property
    def digest(self) -> str:
        """What is pushed; empty before it is exported."""
        return self.record.digest or ""

    @property
    def tags(self) -> images.Tags:
        """Its tags, without those of facts that are not known yet."""
        facts, released = self.record.facts or {}, self.terms.released
        return tags_of(self.build.image, facts, self.revision, released=released)

    def labels(self) -> Mapping[str, str]:
        """Return what the image says of itself."""
        found: Mapping[str, str] = self.terms.client.images.get(self.identity).labels
        return found

    def adopt(self) -> None:
        """Take what the commit's tag stands for, if we signed it whole: it is this image already.

        A build is not the same to the byte on another machine or day. Without this, a release that
        broke off between two tags could not be finished there.
        """
        tag = self.tags.fixed[0]
        digest = self.repository.digest(tag)
        if self.terms.signer is None or digest in {None, self.record.digest}:
            return
        try:
            proven = proof.prove(self.repository, str(digest), self.terms.signer.trust)
        except PublishError:
            return  # not ours: it is compared with what we built, and refused if that is another
        if (proven.image, proven.revision) != (self.build.image.name, self.revision):
            return
        self.terms.say(f"{self.repository.name}:{tag} is there, signed; taking {digest}")
        self.terms.client.images.pull(self.repository.name, digest)
        identity = str(self.terms.client.images.get(self.repository.at(str(digest))).id)
        moment = dt.datetime.now(dt.UTC)
        old = records.read(
            records.folder(self.terms.root, self.build.image.name, identity), identity
        )
        taken = old or records.Record(id=identity, began=moment, ended=moment)
        self.identity, self.adopted = identity, True
        self._keep(taken.model_copy(update={"digest": digest}))

    def test(self) -> None:
        """Look into that very image, start it, and ask it what is inside."""
        image, client = self.build.image, self.terms.client
        wrong = self.strange()  # also of one that was tested: another run may have wanted otherwise
        if self.record.facts is None:
            self.terms.say(f"testing {image.name}, {self.identity}")
            wrong += images.verify(image, images.inspect(client, self.identity))
        if wrong:
            raise ImageError(f"{image.name} {'; '.join(wrong)}", hint="nothing was published of it")
        if self.record.facts is not None:
            return
        images.smoke(client, image, self.identity)
        self._keep(
            self.record.model_copy(update={"facts": images.facts(client, image, self.identity)})
        )
        self.done.append("test")

    def export(self) -> None:
        """Make of the image what is pushed, list what is inside, and look for vulnerabilities."""
        if self.adopted:
            return
        place, name = self.folder / "layout", self.build.image.name
        if self.record.digest is None or not self._is_there(place):
            self.terms.say(f"exporting {name}")
            for old in self.terms.root.glob(f"{name}-*/layout*"):  # gigabytes, and made again
                shutil.rmtree(old)
            made = layout.export(
                self.terms.client, self.identity, place, images.annotations(self.labels())
            )
            if made.digest != self.record.digest:
                for file in sbom.FILES.values():
                    (self.folder / file).unlink(missing_ok=True)
            self._keep(self.record.model_copy(update={"digest": made.digest, "size": made.size}))
            self.done.append("export")
        tag = self.tags.fixed[0]
        tagging.require_free(tag, self.repository.digest(tag), self.digest)
        if not all((self.folder / file).exists() for file in sbom.FILES.values()):
            self.terms.say(f"listing what is in {name}")
            made = layout.Layout(place, self.digest, self.record.size)
            sbom.write(made, self.repository.name, self.folder)
            self.done.append("list")
        self.scanned = scan.check(self.folder / sbom.FILES["cyclonedx"], self.terms.fail_on)

    def push(self) -> None:
        """Send the image, named by its digest alone."""
        if self.repository.manifest(self.digest) is None:
            size = f"{self.record.size / _MB:.0f} MB"
            self.terms.say(f"pushing {self.repository.at(self.digest)}, {size} at most")
            self.repository.push(self.folder / "layout", self.digest)
            self.done.append("push")

    def sign(self) -> None:
        """Sign the digest, and state what is in it and how it came to be; then prove all that."""
        signer = self.terms.signer
        if signer is None or self.adopted:
            return
        self.terms.say(f"looking for signatures of {self.repository.at(self.digest)}")
        if cosign.signed(signer.trust, self.repository, self.digest) is not None:
            self.terms.say(f"signing {self.repository.at(self.digest)}")
            signer.sign(self.repository, self.digest)
            self.done.append("sign")
        if not (self.folder / _PROVENANCE).exists():
            made = provenance.predicate(self._built(), self._origin())
            write_atomically(self.folder / _PROVENANCE, json.dumps(made, indent=1) + "\n")
        for kind, file in STATED.items():
            found, _ = cosign.attested(signer.trust, self.repository, self.digest, kind)
            if found is None:
                signer.attest(self.repository, self.digest, kind, self.folder / file)
                self.done.append(f"attest {kind}")
        proof.prove(self.repository, self.digest, signer.trust)

    def tag(self) -> tagging.Decision:
        """Set the tags, those that stay first; all before this was done by now, or it raised."""
        tags, look = self.tags, self.repository.digest
        decision = decide(self.repository, tags, self.digest)
        for tag in tagging.apply(decision, tags.fixed, self.digest, look):
            self.terms.say(f"tagging {self.repository.name}:{tag}")
            self.repository.tag(self.digest, tag)
            self.done.append(f"tag {tag}")
        shutil.rmtree(self.folder / "layout", ignore_errors=True)
        return decision

    def state(self) -> Mapping[str, bool]:
        """Return which steps are done and still true; changes nothing, and sends nothing."""
        digest, signer = self.record.digest, self.terms.signer
        there = digest is not None and self.repository.manifest(digest) is not None
        listed = all((self.folder / file).exists() for file in sbom.FILES.values())
        found = {
            "build": True,
            "test": self.record.facts is not None,
            "export": digest is not None,
            "list": listed,
            "push": there,
        }
        if signer is not None:
            trust, at = signer.trust, (self.repository, str(digest))
            found["sign"] = there and cosign.signed(trust, *at) is None
            for kind in proof.KINDS:
                found[f"attest {kind}"] = there and cosign.attested(trust, *at, kind)[0] is not None
        return found

    def _keep(self, changed: records.Record) -> None:
        self.record = changed
        records.write(self.folder, changed)

    def _is_there(self, place: Path) -> bool:
        """Tell whether what is pushed is still here, or already there."""
        return (place / "index.json").exists() or (
            self.repository.manifest(self.digest) is not None
            and all((self.folder / file).exists() for file in sbom.FILES.values())
        )

    def strange(self) -> list[str]:
        """Return what the image says of its commit and base that is not what was asked for."""
        labels = self.labels()
        base = self.build.base.partition("@")[2]
        wanted = {"version": cloister.VERSION, "revision": self.revision, "base.digest": base}
        said = {key: labels.get(f"{LABEL}{key}", "") for key in wanted}
        return [
            f"says `{said[key]}` for {key}, not `{value}`"
            for key, value in wanted.items()
            if said[key] != value
        ]

    def _built(self) -> provenance.Built:
        words = [
            word.removeprefix("--build-arg=")
            for word in self.build.arguments
            if word.startswith("--build-arg=")
        ]
        return provenance.Built(
            image=self.build.image.name,
            dockerfile=str(self.build.image.folder / "Dockerfile"),
            base=self.build.base,
            revision=self.revision,
            arguments=dict(word.split("=", 1) for word in words),
            began=self.record.began,
            ended=self.record.ended,
        )

    def _origin(self) -> provenance.Origin:
        return provenance.origin(os.environ, checkout.remote())

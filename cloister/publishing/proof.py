"""The proof that an image is what its publisher signed: signature, both lists, provenance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloister.errors import PublishError
from cloister.images.catalogue import LABEL
from cloister.publishing import cosign, provenance, sbom, tools
from cloister.publishing.registry import Repository

KINDS = (*sbom.FILES, provenance.KIND)


@dataclass(frozen=True)
class Proof:
    """What was proven; `base_digest` is None where the image was not built on a locked base."""

    reference: str
    digest: str
    signed_by: str
    image: str
    revision: str
    source: str
    base: str
    base_digest: str | None
    builder: str
    packages: int


def prove(repository: Repository, digest: str, trust: cosign.Trust) -> Proof:
    """Return what whom we trust says of a digest; raises PublishError for anything that lacks."""
    reference = repository.at(digest)
    manifest = repository.manifest(digest)
    if manifest is None:
        raise PublishError(f"`{reference}` is not there")
    refused = cosign.signed(trust, repository, digest)
    if refused is not None:
        raise PublishError(
            f"`{reference}` is not signed by {trust.told}: {refused}", hint="do not run it"
        )
    stated: dict[str, Mapping[str, Any]] = {}
    for kind in KINDS:
        found, refused = cosign.attested(trust, repository, digest, kind)
        if found is None:
            raise PublishError(
                f"`{reference}` has no {kind} attestation of {trust.told}: {refused}",
                hint="it was not published whole, or somebody took that away",
            )
        stated[kind] = found
    proof = told(reference, digest, trust.told, stated)
    what = f"the manifest of `{reference}`"
    described = tools.parsed(what, manifest)
    with tools.expecting(what):
        annotated = described.get("annotations", {}).get(f"{LABEL}revision")
    if proof.revision != annotated:
        raise PublishError(
            f"`{reference}` says that it is of {annotated}, its provenance {proof.revision}",
            hint="do not run it",
        )
    return proof


def told(
    reference: str, digest: str, signed_by: str, stated: Mapping[str, Mapping[str, Any]]
) -> Proof:
    """Return what attestations say, by their kinds; pure.

    Raises PublishError for values of other kinds than they have.
    """
    with tools.expecting(f"what is attested of `{reference}`"):
        return _told(reference, digest, signed_by, stated)


def _told(
    reference: str, digest: str, signed_by: str, stated: Mapping[str, Mapping[str, Any]]
) -> Proof:
    made = stated[provenance.KIND]
    source, base = (provenance.material(made, name) for name in ("source", "base"))
    definition = made.get("buildDefinition", {})
    base_digest = base.get("digest", {}).get("sha256")
    return Proof(
        reference=reference,
        digest=digest,
        signed_by=signed_by,
        image=definition.get("externalParameters", {}).get("image", ""),
        revision=source.get("digest", {}).get("gitCommit", ""),
        source=source.get("uri", ""),
        base=base.get("uri", "").removeprefix("docker://"),
        base_digest=f"sha256:{base_digest}" if base_digest else None,
        builder=made.get("runDetails", {}).get("builder", {}).get("id", ""),
        packages=sbom.packages(stated["cyclonedx"]),
    )

"""The images' way into a registry, and the proof that they are ours."""

from invoke.context import Context

from tasks.command import JSON, SET, command, settings


@command(
    registry="where to, such as ghcr.io/owner/cloister; each image is a repository below it",
    image="one image of images/images.yaml (default: all but vLLM's)",
    engine="publish vLLM's image too: cuda or cpu",
    key="sign with this cosign key (COSIGN_PASSWORD has its password); without: as CI vouches",
    unsigned="sign nothing, and say so in the manifest",
    release="set the tags of a release; HEAD has to have its tag",
    local="build on the stand-ins that scripts/local-bases.sh makes",
    fail_on="refuse vulnerabilities with a fix from this severity on; none for no limit",
    out="write manifest, SBOMs and provenance of each image into this folder",
    dry_run="tell what would be done, and what was done; change nothing",
    json_=JSON,
    set_=SET,
)
def publish(
    _: Context,
    registry: str,
    image: str | None = None,
    engine: str | None = None,
    key: str | None = None,
    unsigned: bool = False,
    release: bool = False,
    local: bool = False,
    fail_on: str = "high",
    out: str | None = None,
    dry_run: bool = False,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Build, test, push, sign and then tag images; run it again to go on; code 16 if it cannot."""
    from pathlib import Path

    from cloister import publishing

    request = publishing.Request(
        registry=registry,
        image=image,
        engine=engine,
        key=key,
        unsigned=unsigned,
        release=release,
        local=local,
        fail_on=fail_on,
        out=Path(out) if out else None,
    )
    publishing.publish(settings(set_ or []), request, dry_run=dry_run, as_json=json_)


@command(
    reference="an image of a registry, by tag or by digest",
    key="the publisher's public key, such as cosign.pub",
    identity="without a key: who signed, as the certificate says it",
    issuer="without a key: who vouches for that identity",
    json_=JSON,
)
def verify(
    _: Context,
    reference: str,
    key: str | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    json_: bool = False,
) -> None:
    """Prove that an image is what its publisher signed, with SBOMs and provenance; or code 16."""
    from cloister import publishing

    trust = publishing.Trust(key=key, identity=identity, issuer=issuer)
    publishing.verify(reference, trust, as_json=json_)

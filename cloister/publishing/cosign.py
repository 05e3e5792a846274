"""Signatures and attestations, by cosign: with a key of one's own, or keyless where CI vouches."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.errors import PublishError
from cloister.files import write_atomically
from cloister.publishing import tools
from cloister.publishing.registry import Repository

_GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
_PASSWORD = "COSIGN_PASSWORD has the password of the key"  # noqa: S105  # a hint, no password


@dataclass(frozen=True)
class Trust:
    """Whose signatures count: those of a public key's file, or of an identity at its issuer."""

    key: str | None = None
    identity: str | None = None
    issuer: str | None = None

    @property
    def told(self) -> str:
        """Who that is, for a person."""
        return f"key {self.key}" if self.key else f"{self.identity} at {self.issuer}"

    @property
    def command(self) -> str:
        """The beginning of the command by which anybody checks a signature."""
        own = Trust(key="cosign.pub") if self.key else self
        return " ".join(("cosign", "verify", *own.flags))

    @property
    def flags(self) -> tuple[str, ...]:
        """What cosign has to know; a key's signatures are in no public log (docs/publishing.md)."""
        if self.key:
            return ("--key", self.key, "--insecure-ignore-tlog=true")
        return (
            f"--certificate-identity={self.identity}",
            f"--certificate-oidc-issuer={self.issuer}",
        )


@dataclass(frozen=True)
class Signer:
    """Who signs: a key, or nobody's key and what CI says of us; `trust` is the other half."""

    trust: Trust
    key: str | None = None

    def sign(self, repository: Repository, digest: str) -> None:
        """Sign a digest that is in the registry."""
        self._cosign("sign", repository, digest)

    def attest(self, repository: Repository, digest: str, kind: str, predicate: Path) -> None:
        """Attach a signed statement about a digest, in the place of an older one of its kind."""
        flags = ("--replace", f"--type={kind}", f"--predicate={predicate}")
        self._cosign("attest", repository, digest, *flags)

    def _cosign(self, verb: str, repository: Repository, digest: str, *flags: str) -> None:
        # A transparency log is public: it would tell everybody what is published where.
        key = ("--key", self.key, "--tlog-upload=false") if self.key else ()
        arguments = (verb, "--yes", *key, *_plain(repository), *flags, repository.at(digest))
        tools.require(f"cosign {verb} failed for {repository.name}", "cosign", arguments)


def signer(key: str | None, environ: Mapping[str, str], scratch: Path) -> Signer:
    """Return who signs, having looked whether that can be; `scratch` takes the public key.

    Raises PublishError for a key that cannot be opened, and where there is neither key nor
    identity.
    """
    if key is None:
        trust = identity(environ)
        if trust is None:
            raise PublishError(
                "nothing to sign with: no --key, and no CI that says who we are",
                hint="cosign generate-key-pair, then --key cosign.key; or --unsigned",
            )
        tools.path("cosign")
        return Signer(trust)
    if "://" not in key and not Path(key).is_file():
        raise PublishError(f"there is no key `{key}`", hint="cosign generate-key-pair")
    result = tools.require(
        f"the key `{key}` cannot be used", "cosign", ("public-key", "--key", key), hint=_PASSWORD
    )
    public = scratch / "cosign.pub"
    write_atomically(public, result.stdout)
    return Signer(Trust(key=str(public)), key)


def identity(environ: Mapping[str, str]) -> Trust | None:
    """Return as whom CI lets us sign without a key, None where it does not; pure."""
    if environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN") and environ.get("GITHUB_WORKFLOW_REF"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return Trust(identity=f"{server}/{environ['GITHUB_WORKFLOW_REF']}", issuer=_GITHUB_ISSUER)
    if environ.get("SIGSTORE_ID_TOKEN") and environ.get("CI_CONFIG_REF_URI"):
        return Trust(
            identity=f"https://{environ['CI_CONFIG_REF_URI']}", issuer=environ["CI_SERVER_URL"]
        )
    return None


def signed(trust: Trust, repository: Repository, digest: str) -> str | None:
    """Return None when the digest is signed by whom we trust, else why it does not count."""
    flags = (*trust.flags, *_plain(repository))
    result = tools.run("cosign", "verify", *flags, repository.at(digest))
    return None if result.code == 0 else tools.why(result)


def attested(
    trust: Trust, repository: Repository, digest: str, kind: str
) -> tuple[Mapping[str, Any] | None, str]:
    """Return what whom we trust states about a digest, or None and why it does not count."""
    flags = (*trust.flags, *_plain(repository), f"--type={kind}")
    result = tools.run("cosign", "verify-attestation", *flags, repository.at(digest))
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.code != 0 or not lines:
        return None, tools.why(result)
    what = f"the {kind} attestation of `{repository.at(digest)}`"
    envelope = tools.parsed(what, lines[-1])
    with tools.expecting(what):
        payload = tools.parsed(what, base64.b64decode(envelope["payload"]))
        predicate: Mapping[str, Any] = payload["predicate"]
    return predicate, ""


def _plain(repository: Repository) -> tuple[str, ...]:
    return ("--allow-http-registry",) if repository.plain else ()

"""A repository of a registry, by skopeo: what is there, pushing by digest, and tags."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import PublishError
from cloister.publishing import tools

_PREFIX = re.compile(r"[a-z0-9\[][a-z0-9.:\[\]-]*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?")
_TAGS_BYTES = 16 << 20  # a tag has 128 characters at most
# What registries say of a manifest or a repository that is not there. skopeo has no code for it.
_ABSENT = re.compile(r"manifest unknown|name unknown|404 \(?Not Found", re.IGNORECASE)


@dataclass(frozen=True)
class Repository:
    """One image's place: `name` is registry and path, without a tag."""

    name: str

    @property
    def plain(self) -> bool:
        """Whether it is spoken to in plain HTTP: on this machine alone, as engines do."""
        return _LOOPBACK.fullmatch(self.name.partition("/")[0]) is not None

    def at(self, digest: str) -> str:
        """Return the reference of a digest."""
        return f"{self.name}@{digest}"

    def manifest(self, reference: str) -> bytes | None:
        """Return the manifest that a tag or a digest names, None where there is none."""
        result = tools.run("skopeo", "inspect", "--raw", *self._tls(""), self._url(reference))
        if result.code == 0:
            content = result.stdout.encode()
            if len(content) > tools.MANIFEST_BYTES:
                raise PublishError(
                    f"{self.name} has a manifest of more than {tools.MANIFEST_BYTES:,} bytes"
                )
            return content
        if _ABSENT.search(result.stderr):
            return None
        raise PublishError(
            f"{self.name} cannot be read: {tools.why(result)}",
            hint="is it reached from here, and are you logged in (scripts/registry-login.sh)?",
        )

    def digest(self, tag: str) -> str | None:
        """Return what a tag stands for now, None where there is none."""
        manifest = self.manifest(tag)
        return None if manifest is None else f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def tags(self) -> tuple[str, ...]:
        """Return every tag."""
        result = tools.run("skopeo", "list-tags", *self._tls(""), f"docker://{self.name}")
        if result.code != 0 and not _ABSENT.search(result.stderr):
            raise PublishError(f"{self.name} has no list of tags: {tools.why(result)}")
        if result.code != 0:
            return ()
        what = f"the list of tags of {self.name}"
        listed = tools.parsed(what, result.stdout, _TAGS_BYTES)
        with tools.expecting(what):
            return tuple(map(str, listed["Tags"]))

    def push(self, layout: Path, digest: str) -> None:
        """Send what the registry lacks of an OCI layout, and name it by its digest alone."""
        flags = ("copy", "--quiet", "--preserve-digests", *self._tls("dest-"))
        target = f"docker://{self.at(digest)}"
        tools.require(
            f"{self.name} did not take the image", "skopeo", (*flags, f"oci:{layout}", target)
        )

    def tag(self, digest: str, tag: str) -> None:
        """Put a tag on what is there, and look whether it is there; nothing is sent twice."""
        flags = ("copy", "--quiet", "--preserve-digests", *self._tls("src-"), *self._tls("dest-"))
        names = (f"docker://{self.at(digest)}", f"docker://{self.name}:{tag}")
        tools.require(f"{self.name} did not take the tag {tag}", "skopeo", (*flags, *names))
        found = self.digest(tag)
        if found != digest:
            raise PublishError(
                f"{self.name}:{tag} was set to {digest}, and is {found}: somebody else sets it too",
                hint="see who, then run the same command again",
            )

    def _url(self, reference: str) -> str:
        joint = "@" if reference.startswith("sha256:") else ":"
        return f"docker://{self.name}{joint}{reference}"

    def _tls(self, side: str) -> tuple[str, ...]:
        return (f"--{side}tls-verify=false",) if self.plain else ()


def repository(registry: str, image: str) -> Repository:
    """Return where an image of a registry is; raises PublishError for what names no registry."""
    host = registry.partition("/")[0]
    named = "." in host or ":" in host or host == "localhost"
    if not named or not _PREFIX.fullmatch(registry):
        raise PublishError(
            f"`{registry}` is no registry", hint="such as registry.example.org/cloister"
        )
    return Repository(f"{registry}/{image}")


def parsed(reference: str) -> tuple[Repository, str]:
    """Return the repository of a reference, and its digest or tag."""
    name, at, digest = reference.partition("@")
    head, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    wanted = digest if at else tag
    if not head or not wanted:
        raise PublishError(
            f"`{reference}` names no image of a registry",
            hint="such as registry.example.org/cloister/gateway:1.4.0, or with @sha256:...",
        )
    return repository(head, last), wanted

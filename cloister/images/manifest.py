"""The manifest of an image for people: what it is, what is inside and how to check that, pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cloister.images.catalogue import LABEL, MODEL_LABEL, REVISION_LABEL, Image
from cloister.images.inspection import Facts
from cloister.images.packages import Package
from cloister.images.tags import Tags

_MB = 1_000_000
_KINDS = {"deb": "Debian", "pypi": "Python"}


@dataclass(frozen=True)
class Published:
    """Where an image is: `repository` is its name without a tag, with its registry.

    `digest` is that of what was pushed, None before. `verify` are the commands that check it, none
    for what nobody signed. `scan` is a line about known vulnerabilities.
    """

    repository: str
    tags: Tags
    digest: str | None = None
    verify: tuple[str, ...] = ("cosign verify --key cosign.pub {}",)
    scan: str | None = None


def render(image: Image, found: Facts, facts: Mapping[str, str], published: Published) -> str:
    """Return the manifest as Markdown."""
    return "\n".join(
        [
            f"# {published.repository}",
            "",
            f"{image.description}.",
            "",
            *_table(("what", "value"), _rows(found, facts, published)),
            "",
            "## Verify",
            "",
            *_verification(found, published),
            "",
            "## Layers",
            "",
            *(f"{number}. `{layer}`" for number, layer in enumerate(found.layers, 1)),
            "",
            *_packages(found.packages),
        ]
    )


def _rows(
    found: Facts, facts: Mapping[str, str], published: Published
) -> Iterable[tuple[str, str]]:
    labels = found.labels
    base = labels.get(f"{LABEL}base.name", "unknown")
    base_digest = labels.get(f"{LABEL}base.digest")
    yield "digest", _code(published.digest) if published.digest else "none: it was not pushed"
    yield "id", _code(found.id)
    yield "tags that stay", _codes(published.tags.fixed)
    yield "tags that move", _codes(published.tags.moving)
    yield "version", _text(labels.get(f"{LABEL}version", "unknown"))
    yield "commit", _code(labels.get(f"{LABEL}revision", "unknown"))
    yield "base", _code(base)
    yield "digest of the base", _code(base_digest) if base_digest else "not known"
    if labels.get(MODEL_LABEL):
        yield "model", f"{_text(labels[MODEL_LABEL])} at {_code(labels[REVISION_LABEL])}"
    yield from ((name, _text(value)) for name, value in facts.items() if name != "model")
    if published.scan:
        yield "vulnerabilities", _text(published.scan)
    yield "size unpacked", f"{found.size_bytes / _MB:.0f} MB"
    yield "files", f"{found.files:,}"
    yield "user", _code(found.user)
    yield "ports", _codes(found.ports)
    yield "health check", _code(found.health_check) if found.health_check else "none"
    yield "shells", _codes(found.shells)
    yield "setuid files", _codes(found.setuid)


def _verification(found: Facts, published: Published) -> list[str]:
    if published.digest is None:
        return [f"It was not pushed. On the machine that built it, it is `{found.id}`."]
    whole = f"{published.repository}@{published.digest}"
    commands = [command.format(whole) for command in (*published.verify, "docker pull {}")]
    signed = (
        [] if published.verify else ["Nobody signed it: it was published with `--unsigned`.", ""]
    )
    return [*signed, "```console", *(f"$ {command}" for command in commands), "```"]


def _packages(packages: Iterable[Package]) -> Iterable[str]:
    for kind, title in _KINDS.items():
        of_kind = [package for package in packages if package.kind == kind]
        if of_kind:
            yield from (f"## {title} packages: {len(of_kind)}", "")
            rows = [(_text(package.name), _text(package.version)) for package in of_kind]
            yield from (*_table(("package", "version"), rows), "")


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [columns, ("---",) * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(map(_code, texts)) or "none"


def _code(text: str) -> str:
    return f"`{_text(text)}`"


def _text(text: str) -> str:
    """Return a text that stays in its cell."""
    return " ".join(text.replace("|", r"\|").split())

"""Building: a catalogue and a base to `docker build` command lines, pure, then run."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cloister
from cloister import containers, shell
from cloister.config import DockerSettings, project_root
from cloister.errors import ImageError
from cloister.images.catalogue import Image, catalogue

_BUILD_S = 3600.0
_TAIL_LINES = 20
_BUILDKIT = {"DOCKER_BUILDKIT": "1"}
_SOURCE = "https://github.com/cloister-ocr/cloister"
# A network that inspects TLS has an authority of its own, which the build has to trust too. It is
# mounted for one step and stays in no layer.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


@dataclass(frozen=True)
class Build:
    """One image to build: its reference, its base, and `arguments` for `docker build`."""

    image: Image
    reference: str
    base: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """The commit that is being built: its full hash, and its time in seconds since 1970."""

    revision: str
    epoch_s: int


def plan_builds(
    names: Sequence[str],
    docker: DockerSettings,
    source: Source,
    *,
    base: str | None = None,
    local: bool = False,
    authority: Path | None = None,
) -> tuple[Build, ...]:
    """Return what to build, in order; pure.

    `base` replaces the base of the one image that is built; `local` takes the stand-ins. Raises
    ImageError for an unknown name, and where there is no stand-in.
    """
    images = [_known(name) for name in names] or [i for i in catalogue().values() if not i.engine]
    if base is not None and len(images) != 1:
        raise ImageError(
            f"`--base` is for one image, and {len(images)} would be built",
            hint="name it: invoke images.build --image vllm-cpu --base REF",
        )
    return tuple(_build(image, docker, source, base, local, authority) for image in images)


def build(planned: Build, say: Callable[[str], None]) -> None:
    """Run one build; raises ImageError with the end of its output when it fails."""
    client = containers.connect()
    if planned.base.startswith("cloister-base/") and not client.images.list(planned.base):
        raise ImageError(
            f"the stand-in base `{planned.base}` is not there", hint="./scripts/local-bases.sh"
        )
    say(f"building {planned.reference} from {planned.base}")
    command = (*containers.builder(), "build", "--progress=plain", *planned.arguments)
    result = shell.run(
        command, timeout_s=_BUILD_S, check=False, environment=_BUILDKIT, folder=project_root()
    )
    if result.code != 0:
        tail = "\n".join(result.stderr.strip().splitlines()[-_TAIL_LINES:])
        raise ImageError(f"{planned.reference} was not built:\n{tail}")


def source() -> Source:
    """Return the commit of this checkout, or of no commit at all (a release without .git)."""
    root = str(project_root())
    result = shell.run(["git", "-C", root, "log", "-1", "--format=%H %ct"], check=False)
    if result.code != 0:
        return Source("unknown", int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    revision, _, epoch = result.stdout.strip().partition(" ")
    return Source(revision, int(os.environ.get("SOURCE_DATE_EPOCH", epoch)))


def authority() -> Path | None:
    """Return the file of the certificate authorities that this machine trusts, if it has one."""
    named = [os.environ.get(name, "") for name in ("SSL_CERT_FILE", "PIP_CERT")]
    return next((Path(path) for path in (*named, *_AUTHORITIES) if Path(path).is_file()), None)


def _known(name: str) -> Image:
    if name not in catalogue():
        raise ImageError(f"no image `{name}`; there are {', '.join(catalogue())}")
    return catalogue()[name]


def _build(
    image: Image,
    docker: DockerSettings,
    source: Source,
    base: str | None,
    local: bool,  # noqa: FBT001  # a flag of the command line, passed on
    authority: Path | None,
) -> Build:
    if local and base is None and image.stand_in is None:
        raise ImageError(
            f"{image.name} has no stand-in base; it builds on `{image.base}`",
            hint="pull that one, or name another with --base",
        )
    chosen = base or (image.stand_in if local else image.base) or image.base
    labels = {
        "title": f"cloister {image.name}",
        "description": image.description,
        "version": cloister.VERSION,
        "revision": source.revision,
        "source": _SOURCE,
        "licenses": "Apache-2.0",
        "base.name": chosen,
    }
    reference = image.reference(docker)
    arguments = (
        f"--file={image.folder / 'Dockerfile'}",
        f"--tag={reference}",
        f"--build-arg=BASE={chosen}",
        f"--build-arg=SOURCE_DATE_EPOCH={source.epoch_s}",
        *(f"--label=org.opencontainers.image.{key}={text}" for key, text in labels.items()),
        *([f"--secret=id=ca,src={authority}"] if authority else []),
        ".",
    )
    return Build(image, reference, chosen, arguments)

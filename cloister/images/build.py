"""Building: a catalogue and a base to `docker build` command lines, pure, then run."""

import datetime as dt
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cloister
from cloister import containers, shell
from cloister.config import DockerSettings, project_root
from cloister.errors import ImageError
from cloister.images.catalogue import LABEL, Image, catalogue
from cloister.images.lock import EMPTY, Lock, locked

_BUILD_S = 3600.0
_TAIL_LINES = 20
_BUILDKIT = {"DOCKER_BUILDKIT": "1"}
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
class Options:
    """What `invoke images.build` was asked for.

    Without an `image` these are all but vLLM's, and vLLM's for `engine` (`cuda` or `cpu`) too.
    `base` replaces the base of the one image that is built, `local` takes the stand-ins, and
    `unlocked` takes the bases that the tags stand for now.
    """

    image: str | None = None
    engine: str | None = None
    base: str | None = None
    local: bool = False
    unlocked: bool = False
    bake: bool = False


@dataclass(frozen=True)
class Source:
    """The commit that is being built: its full hash, and its time in seconds since 1970."""

    revision: str
    epoch_s: int


def plan_builds(
    options: Options,
    docker: DockerSettings,
    source: Source,
    *,
    lock: Lock = EMPTY,
    authority: Path | None = None,
) -> tuple[Build, ...]:
    """Return what to build, in order; pure.

    `authority` is a file of certificate authorities that the build has to trust too. Raises
    ImageError for an unknown name, for flags that contradict, where there is no stand-in, and for
    a base that `lock` lacks.
    """
    chosen = _chosen(options)
    if options.base is not None and len(chosen) != 1:
        raise ImageError(
            f"`--base` is for one image, and {len(chosen)} would be built",
            hint="name it: invoke images.build --image vllm-cpu --base REF",
        )
    if options.bake and not any(image.engine for image in chosen):
        raise ImageError(
            "`--bake` puts the model into vLLM's image, and none would be built",
            hint="invoke images.build --engine cuda --bake",
        )
    bases = [_base(image, options, lock) for image in chosen]
    return tuple(
        _build(image, image.reference(docker), base, source, authority)
        for image, base in zip(chosen, bases, strict=True)
    )


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
        hint = None
        if planned.base.partition("@")[0] == planned.image.base:
            hint = "nothing can be pulled here? ./scripts/local-bases.sh, then add --local"
        raise ImageError(f"{planned.reference} was not built:\n{tail}", hint=hint)


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


def known(name: str) -> Image:
    """Return the image of that name; raises ImageError when there is none."""
    if name not in catalogue():
        raise ImageError(f"no image `{name}`; there are {', '.join(catalogue())}")
    return catalogue()[name]


def _chosen(options: Options) -> tuple[Image, ...]:
    engines = {str(image.engine): image for image in catalogue().values() if image.engine}
    if options.engine is not None and options.engine not in engines:
        raise ImageError(f"no engine `{options.engine}`; there are {', '.join(engines)}")
    common = tuple(image for image in catalogue().values() if not image.engine)
    wanted = (known(options.image),) if options.image else common
    return (*wanted, *((engines[options.engine],) if options.engine else ()))


def labels(image: Image, base: str, source: Source) -> Mapping[str, str]:
    """Return the labels of an image that starts from `base`, a tag, a digest or both; pure."""
    name, _, digest = base.partition("@")
    texts = {
        "title": f"cloister {image.name}",
        "description": image.description,
        "version": cloister.VERSION,
        "created": dt.datetime.fromtimestamp(source.epoch_s, dt.UTC).isoformat(),
        "revision": source.revision,
        "licenses": "Apache-2.0",
        "base.name": name,
        # Labels are inherited: without ours an image would tell the digest of its base's base.
        "base.digest": digest,
    }
    return {f"{LABEL}{key}": text for key, text in texts.items()}


def _base(image: Image, options: Options, lock: Lock) -> str:
    """Return what to start from: what somebody named as it is, and what images.yaml names locked.

    One named by hand may be in no registry, and then has no digest.
    """
    if options.base is not None:
        return options.base
    if options.local:
        if image.stand_in is None:
            raise ImageError(
                f"{image.name} has no stand-in base; it builds on `{image.base}`",
                hint="pull that one, or name another with --base",
            )
        return image.stand_in
    return image.base if options.unlocked else locked(image.base, lock)


def _build(
    image: Image, reference: str, base: str, source: Source, authority: Path | None
) -> Build:
    arguments = (
        f"--file={image.folder / 'Dockerfile'}",
        f"--tag={reference}",
        f"--build-arg=BASE={base}",
        f"--build-arg=SOURCE_DATE_EPOCH={source.epoch_s}",
        *(f"--label={key}={text}" for key, text in labels(image, base, source).items()),
        *([f"--secret=id=ca,src={authority}"] if authority else []),
        ".",
    )
    return Build(image, reference, base, arguments)

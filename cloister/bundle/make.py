"""Making a bundle: what goes in is decided first, then copied, listed, summed and signed."""

import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from docker.errors import ImageNotFound

from cloister import containers, modelstore, shell
from cloister.bundle import archive, sbom, signing
from cloister.bundle.archive import Saved
from cloister.bundle.parts import Parts
from cloister.config import Loaded, project_root
from cloister.engines import ENGINES
from cloister.errors import BundleError
from cloister.images import catalogue
from cloister.modelstore import READY, Pin, pins

_WHEELS_S = 1800.0
_CHUNK_BYTES = 1 << 20
# scripts/bundle.sh copies each part, compares the copy, and gives that to Docker.
_IMAGES_PART = 256 << 20  # bytes
_PROJECT = (
    *("cloister", "compose", "docs", "images", "loadtests", "nginx-config", "profiles"),
    *("requirements", "samples", "scripts", "tasks", "tuned"),
    *("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"),
)
# Where things lie here, which is nobody's business there.
_OURS = ("state_dir", "model.store", "model.folder", "gateway.nginx", "docker.override")
# What a bundle says by its version and its lock: the far side keeps its first cloister.yaml.
_SAID = ("model.revision",)
# What scripts/bundle.sh takes for a name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_BESIDE_ENGINES = ("gateway", "exporter")


@dataclass(frozen=True)
class Options:
    """Where to write, whose key signs, how large a file may be, whether the model goes along."""

    out: Path
    key: Path
    part_bytes: int | None = None
    model: bool = True


@dataclass(frozen=True)
class Plan:
    """What a bundle will hold: images by their references, and a model, if any."""

    images: tuple[str, ...]
    model: Pin | None
    folder: Path | None
    configuration: str


def plan(loaded: Loaded, engine: str, *, with_model: bool) -> Plan:
    """Return what a bundle for one engine needs; raises ModelStoreError for a damaged model.

    The far side gets the settings that were made here, but for paths, and the docker runtime.
    """
    settings = loaded.settings
    if engine == "tesseract" and settings.tesseract.tessdata_dir is not None:
        raise BundleError(
            f"`tesseract.tessdata_dir` is `{settings.tesseract.tessdata_dir}`, a folder of this "
            "machine, which a bundle does not carry",
            hint="bundle without it, and set it on the far side",
        )
    names = (*_BESIDE_ENGINES, ENGINES[engine].image)
    images = tuple(catalogue()[name].reference(settings.docker) for name in names)
    pin = folder = None
    if ENGINES[engine].serves_model and with_model:
        folder = modelstore.verified(settings)
        pin = pins.find(settings.model.store, settings.model.name, folder.name)
    return Plan(images, pin, folder, _configuration(loaded, engine))


def make(planned: Plan, options: Options, say: Callable[[str], None]) -> Path:
    """Write the bundle, whole or not at all; return its folder.

    Raises BundleError when it is there already, an image is missing, or the key cannot sign.
    """
    signing.require_key(options.key)
    if options.part_bytes is not None and options.part_bytes < 1:
        raise BundleError("--part-mib has to be 1 or more")
    _require_names()
    if options.out.exists():
        raise BundleError(f"`{options.out}` exists already", hint="name another --out")
    staged, scratch = (
        options.out.with_name(f".{options.out.name}.{n}") for n in ("partial", "tmp")
    )
    try:
        for folder in (staged, scratch):
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
            folder.mkdir(parents=True)
        _fill(planned, options, staged, scratch, say)
        staged.rename(options.out)
    except OSError as error:
        raise BundleError(f"`{options.out}` cannot be written: {error}") from error
    finally:
        for folder in (staged, scratch):
            shutil.rmtree(folder, ignore_errors=True)
    return options.out


def _require_names() -> None:
    """Require names that the far side takes, before anything is copied."""
    for name in (name for name, _ in _project_files()):
        if not _NAME.fullmatch(name):
            raise BundleError(
                f"`{name}` has a name that a bundle cannot carry",
                hint="only letters, digits and . _ + - /; rename it, or take it out of the project",
            )


def _fill(
    planned: Plan, options: Options, staged: Path, scratch: Path, say: Callable[[str], None]
) -> None:
    sums: dict[str, str] = {}

    def parts(name: str, most: int | None = options.part_bytes) -> Parts:
        return Parts(staged, name, sums, part_bytes=most)

    def small(name: str, content: bytes) -> None:
        with Parts(staged, name, sums, part_bytes=None) as file:
            file.write(content)

    say("fetching the Python packages")
    wheels = _wheels(scratch / "wheels")
    images = []
    for reference in planned.images:
        say(f"saving {reference}")
        images.append(_saved(reference, scratch))
    with parts("images.tar", min(options.part_bytes or _IMAGES_PART, _IMAGES_PART)) as out:
        archive.write(images, cast("Any", out))
    say("copying the project")
    for name, path in (*_project_files(), *((f"wheels/{path.name}", path) for path in wheels)):
        small(f"project/{name}", path.read_bytes())
        (staged / "project" / name).chmod(path.stat().st_mode & 0o755)
    small("project/wheels/PYTHON", f"{_python()}\n".encode())
    small("project/cloister.yaml", planned.configuration.encode())
    targets = {}
    if planned.model is not None and planned.folder is not None:
        say(f"copying {planned.model.model}")
        targets = _model(planned.model, planned.folder, parts)
        small("project/models/models.lock.yaml", pins.render([planned.model]).encode())
    small("CONTENTS", _contents(images, targets).encode())
    say("listing what is in it")
    small("sbom.cdx.json", sbom.render(images, wheels, planned.model).encode())
    small("README.md", _readme(planned).encode())
    small("bundle.sh", (project_root() / "scripts" / "bundle.sh").read_bytes())
    (staged / "bundle.sh").chmod(0o755)
    small("SIZES", _sizes(staged, sums).encode())
    (staged / "SHA256SUMS").write_text(_lines(sums), encoding="utf-8")
    signing.sign(staged / "SHA256SUMS", options.key)


def _lines(sums: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _sizes(staged: Path, names: Iterable[str]) -> str:
    return "".join(f"{(staged / name).stat().st_size}  {name}\n" for name in sorted(names))


def _saved(reference: str, scratch: Path) -> Saved:
    with containers.explained():
        try:
            image = containers.connect().images.get(reference)
        except ImageNotFound as error:
            raise BundleError(
                f"the image `{reference}` was not built", hint="invoke images.build"
            ) from error
        return archive.unpack(reference, image.save(named=reference), scratch)


def _wheels(folder: Path) -> list[Path]:
    """Download the wheels of the runtime's requirements, hashes checked."""
    lock = project_root() / "requirements" / "runtime.txt"
    flags = ("--require-hashes", "--only-binary=:all:", "--quiet", "--disable-pip-version-check")
    shell.run(
        [sys.executable, "-m", "pip", "download", *flags, f"--dest={folder}", f"-r{lock}"],
        timeout_s=_WHEELS_S,
    )
    return sorted(folder.iterdir())


def _project_files() -> Iterator[tuple[str, Path]]:
    root = project_root()
    for name in _PROJECT:
        paths = sorted((root / name).rglob("*")) if (root / name).is_dir() else [root / name]
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(root)), path


def _model(pin: Pin, folder: Path, parts: Callable[[str], Parts]) -> dict[str, str]:
    """Copy the model's files and return where each belongs, by its name in the bundle."""
    targets = {}
    for name in (*pin.files, READY):
        flat = f"model/{name.replace('/', '--')}"
        with parts(flat) as out, (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                out.write(chunk)
        targets[flat] = f"models/{pin.model}/{pin.revision}/{name}"
    return targets


def _contents(images: list[Saved], targets: dict[str, str]) -> str:
    rows = [("image", image.reference, image.id, image.digest) for image in images]
    lines = ["\t".join(row) for row in rows]
    lines += [f"model\t{name}\t{target}" for name, target in targets.items()]
    return "\n".join(lines) + "\n"


def _configuration(loaded: Loaded, engine: str) -> str:
    chosen: dict[str, Any] = {
        item.key: item.value
        for item in loaded.origins
        if item.origin != "default" and not item.origin.startswith("profiles/")
    }
    chosen |= {"runtime": "docker", "engine": engine, "model.name": loaded.settings.model.name}
    nested: dict[str, Any] = {}
    for key, value in chosen.items():
        section, _, name = key.rpartition(".")
        if key not in {*_OURS, *_SAID}:
            (nested.setdefault(section, {}) if section else nested)[name] = value
    return "# Made by `invoke bundle`.\n" + yaml.safe_dump(nested, sort_keys=False)


def _python() -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _readme(planned: Plan) -> str:
    model = f"{planned.model.model} at {planned.model.revision}" if planned.model else "none"
    images = "\n".join(f"- {reference}" for reference in planned.images)
    return f"""# Cloister, for a machine without a network

Images:

{images}

Model: {model}. Python packages: for {_python()}.

Whoever made this gave you a public key (`.pub`) and `bundle.sh` on another way. With them:

    ./bundle.sh verify THIS_FOLDER --key KEY.pub
    ./bundle.sh install THIS_FOLDER --key KEY.pub --into /opt/cloister
    cd /opt/cloister && .venv/bin/invoke up && .venv/bin/invoke verify

With the key alone, check by hand, then use the `bundle.sh` in here:

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
    sha256sum --check --strict --quiet SHA256SUMS

It needs bash, coreutils, openssl 3.0 and Docker 20.10, and for `invoke` the Python named above.
A set of parts (`.000` on) is put into one folder first. `sbom.cdx.json` lists what is in here.
"""

"""`invoke images.*`: builds, looks and tells."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound

from cloister import console, containers, images, modelstore
from cloister.config import Settings
from cloister.errors import CloisterError, ImageError
from cloister.files import write_atomically
from cloister.images import inspection
from cloister.images import lock as locks
from cloister.images.bake import bake
from cloister.images.build import Options
from cloister.images.catalogue import LABEL, MODEL_LABEL, REVISION_LABEL

_MB = 1_000_000


def build(settings: Settings, options: Options) -> None:
    """Build what `options` name."""
    planned = images.plan_builds(
        options,
        settings.docker,
        images.source(),
        lock=locks.read(),
        authority=images.authority(),
    )
    with console.steps() as report, containers.explained():
        for one in planned:
            images.build(one, report)
            console.say(f"built {one.reference}")
        if options.bake:
            model = modelstore.verified(settings)
            labels = {MODEL_LABEL: settings.model.name, REVISION_LABEL: model.name}
            for one in planned:
                if one.image.engine:
                    reference = one.image.baked(settings.docker)
                    bake(one, reference, model, labels, report)
                    console.say(f"built {reference}")


def test(settings: Settings, name: str | None, *, as_json: bool) -> None:
    """Look into the images; raises ImageError when one of them is not what it has to be."""
    client = containers.connect()
    chosen = _chosen(client, settings, name)
    wrong: dict[str, tuple[str, ...]] = {}
    facts = []
    with console.steps() as report, containers.explained():
        for image in chosen:
            reference = image.reference(settings.docker)
            report(f"looking into {reference}")
            facts.append(images.inspect(client, reference))
            wrong[reference] = images.verify(image, facts[-1])
    if as_json:
        console.dump([{**asdict(fact), "wrong": wrong[fact.reference]} for fact in facts])
    else:
        rows = [(f.reference, f"{f.size_bytes / _MB:.0f}", f.user, f.files) for f in facts]
        console.table(("image", "MB", "user", "files"), rows)
    problems = [f"{reference} {item}" for reference, items in wrong.items() for item in items]
    if problems:
        raise ImageError("; ".join(problems), hint="invoke images.build")


def lock(*, update: bool, as_json: bool) -> None:
    """Tell what is locked and what the registries have; raises ImageError for what is not locked.

    To `update` locks what they have now.
    """
    before = locks.read()
    bases = [image.base for image in images.catalogue().values()]
    resolve = locks.resolver(containers.connect())
    with console.steps() as report:
        report("asking the registries")
        entries = locks.compared(bases, before, resolve)
    if update:
        after, changes = locks.updated(before, entries, dt.datetime.now(dt.UTC).date())
        locks.write(after)
        for change in changes or ("nothing changed",):
            console.say(change)
        entries = locks.compared(bases, after, {e.base: str(e.found) for e in entries}.__getitem__)
    _tell_locked(entries, as_json=as_json)


def _tell_locked(entries: tuple[locks.Entry, ...], *, as_json: bool) -> None:
    rows = [
        {
            "base": entry.base,
            "digest": entry.locked.digest if entry.locked else None,
            "since": entry.locked.date.isoformat() if entry.locked else None,
            "state": entry.state,
            "registry": entry.found or entry.unknown,
        }
        for entry in entries
    ]
    if as_json:
        console.dump(rows)
    else:
        columns = ("base", "digest", "since", "state", "registry")
        console.table(columns, [[row[column] for column in columns] for row in rows])
    missing = [entry.base for entry in entries if entry.locked is None]
    if missing:
        raise ImageError(
            f"not locked: {', '.join(missing)}",
            hint="invoke images.lock --update, where their registries are reached",
        )


@dataclass(frozen=True)
class Publication:
    """What `invoke images.facts` was asked for: tags of a release or of a commit, and manifests."""

    image: str | None = None
    released: bool = False
    out: Path | None = None


def facts(settings: Settings, wanted: Publication, *, as_json: bool) -> None:
    """Tell the facts and the tags of built images, and write their manifests."""
    client = containers.connect()
    told: list[dict[str, Any]] = []
    with console.steps() as report, containers.explained():
        for image in _chosen(client, settings, wanted.image):
            for name, reference in _references(client, settings, image):
                report(f"asking {reference}")
                told.append({"image": name, **_told(client, image, reference, wanted)})
                if wanted.out is not None:
                    _write(wanted.out / f"{name}.md", _manifest(client, image, told[-1]))
    if as_json:
        console.dump(told)
        return
    rows = [
        (
            one["reference"],
            ", ".join(f"{name} {value}" for name, value in one["facts"].items()),
            ", ".join(one["tags"]["fixed"]),
            ", ".join(one["tags"]["moving"]) or None,
        )
        for one in told
    ]
    console.table(("image", "facts", "tags that stay", "tags that move"), rows)


def _told(
    client: docker.DockerClient, image: images.Image, reference: str, wanted: Publication
) -> dict[str, Any]:
    labels = inspection.described(client, reference)["Config"].get("Labels") or {}
    found = images.facts(client, image, reference)
    version, revision = (labels.get(LABEL + key, "") for key in ("version", "revision"))
    tags = images.Tags()
    if revision != "unknown":
        tags = images.tags(image, found, version, revision, released=wanted.released)
    return {
        "reference": reference,
        "facts": found,
        "tags": tags._asdict(),
        "annotations": images.annotations(labels),
    }


def _references(
    client: docker.DockerClient, settings: Settings, image: images.Image
) -> list[tuple[str, str]]:
    """Return an image by its name, and also the one that carries a model, if there is one."""
    plain, baked = image.reference(settings.docker), image.baked(settings.docker)
    with_model = [(f"{image.name}-model", baked)] if client.images.list(baked) else []
    return [(image.name, plain), *with_model]


def _manifest(client: docker.DockerClient, image: images.Image, told: Mapping[str, Any]) -> str:
    tags = images.Tags(**told["tags"])
    published = images.Published(told["reference"].rpartition(":")[0], tags)
    found = images.inspect(client, told["reference"])
    return images.manifest.render(image, found, told["facts"], published)


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except CloisterError as error:
        raise ImageError(error.message, hint="name another --out") from error
    console.say(f"wrote {path}")


def show(settings: Settings, *, as_json: bool) -> None:
    """Tell every image of the catalogue, and whether it was built."""
    client = containers.connect()
    entries = [_entry(client, settings, image) for image in images.catalogue().values()]
    if as_json:
        console.dump(entries)
        return
    columns = ("image", "reference", "base", "built", "MB")
    console.table(columns, [[entry[column] for column in columns] for entry in entries])


def _entry(
    client: docker.DockerClient, settings: Settings, image: images.Image
) -> Mapping[str, Any]:
    reference = image.reference(settings.docker)
    entry: dict[str, Any] = {
        "image": image.name,
        "description": image.description,
        "reference": reference,
        "base": image.base,
        "platforms": image.platforms,
    }
    try:
        attributes = client.images.get(reference).attrs
    except ImageNotFound:
        return {**entry, "built": None, "MB": None}
    built = attributes["Id"].removeprefix("sha256:")[:12]
    return {**entry, "built": built, "MB": round(attributes["Size"] / _MB)}


def _chosen(
    client: docker.DockerClient, settings: Settings, name: str | None
) -> list[images.Image]:
    """Return the image of that name, or all that were built."""
    if name:
        return [images.known(name)]
    known = images.catalogue().values()
    built = [each for each in known if client.images.list(each.reference(settings.docker))]
    if not built:
        raise ImageError("no image was built", hint="invoke images.build")
    return built

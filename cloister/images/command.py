"""`invoke images.*`: builds, looks and tells."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import docker
from docker.errors import ImageNotFound

from cloister import console, containers, images, modelstore
from cloister.config import Settings
from cloister.errors import ImageError
from cloister.images.bake import bake
from cloister.images.build import Options

_MB = 1_000_000


def build(settings: Settings, options: Options) -> None:
    """Build what `options` name."""
    planned = images.plan_builds(
        options, settings.docker, images.source(), authority=images.authority()
    )
    with console.steps() as report, containers.explained():
        for one in planned:
            images.build(one, report)
            console.say(f"built {one.reference}")
        if options.bake:
            model = modelstore.verified(settings)
            for one in planned:
                if one.image.engine:
                    reference = one.image.baked(settings.docker)
                    bake(one, reference, model, report)
                    console.say(f"built {reference}")


def test(settings: Settings, name: str | None, *, as_json: bool) -> None:
    """Look into the images; raises ImageError when one of them is not what it has to be."""
    client = containers.connect()
    chosen = [images.known(name)] if name else _built(client, settings)
    if not chosen:
        raise ImageError("no image was built", hint="invoke images.build")
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


def _built(client: docker.DockerClient, settings: Settings) -> list[images.Image]:
    return [
        image
        for image in images.catalogue().values()
        if client.images.list(image.reference(settings.docker))
    ]

"""The images, and the networks of other projects."""

from invoke.context import Context

from tasks.command import JSON, SET, command, settings


@command(
    image="one image of images/images.yaml (default: all but vLLM's)",
    engine="build vLLM's image too: cuda or cpu",
    base="start from this image instead of the one in images.yaml; needs --image",
    local="start from the stand-ins that scripts/local-bases.sh makes",
    unlocked="start from what the bases' tags stand for now, not from images.lock.yaml",
    bake="put the model of the model store into vLLM's image, a layer a shard",
    set_=SET,
)
def build(
    _: Context,
    image: str | None = None,
    engine: str | None = None,
    base: str | None = None,
    local: bool = False,
    unlocked: bool = False,
    bake: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Build the images, by BuildKit."""
    from cloister import images
    from cloister.images import command

    options = images.Options(
        image=image, engine=engine, base=base, local=local, unlocked=unlocked, bake=bake
    )
    command.build(settings(set_ or []), options)


@command(image="one image (default: all that were built)", json_=JSON, set_=SET)
def inspect(
    _: Context, image: str | None = None, json_: bool = False, set_: list[str] | None = None
) -> None:
    """Look into built images: user, setuid files, health check, labels, size; code 5 if wrong."""
    from cloister.images import command

    command.test(settings(set_ or []), image, as_json=json_)


@command(update="lock what the registries have now, in images/images.lock.yaml", json_=JSON)
def lock(_: Context, update: bool = False, json_: bool = False) -> None:
    """Compare the locked digests of the bases with their registries; code 5 if one is missing."""
    from cloister.images import command

    command.lock(update=update, as_json=json_)


@command(
    image="one image (default: all that were built)",
    released="the tags of a release, not those of a commit",
    out="write a manifest for each image into this folder",
    json_=JSON,
    set_=SET,
)
def facts(
    _: Context,
    image: str | None = None,
    released: bool = False,
    out: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Run built images to tell the versions inside, and the tags that follow from them."""
    from pathlib import Path

    from cloister.images import command

    wanted = command.Publication(image, released, Path(out) if out else None)
    command.facts(settings(set_ or []), wanted, as_json=json_)


@command(json_=JSON, set_=SET)
def list_(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """List the images, their bases, and what of them was built."""
    from cloister.images import command

    command.show(settings(set_ or []), as_json=json_)


@command(name="a Docker network, as `docker network ls` names it", set_=SET)
def attach(_: Context, name: str, set_: list[str] | None = None) -> None:
    """Join the gateway to another project's network, which then finds it as `cloister`."""
    from cloister import console, deployment
    from cloister.runtimes import docker

    docker.attach(deployment.required(settings(set_ or [])).settings, name)
    console.say(f"containers on `{name}` find the service at http://cloister/v1")


@command(name="a Docker network that was attached", set_=SET)
def detach(_: Context, name: str, set_: list[str] | None = None) -> None:
    """Take the gateway off another project's network again."""
    from cloister import console, deployment
    from cloister.runtimes import docker

    docker.detach(deployment.required(settings(set_ or [])).settings, name)
    console.say(f"the gateway left `{name}`")

"""Bundles: everything for a machine without a network."""

from invoke.context import Context

from tasks.command import SET, command

_KEY = "the private key that signs; its public half is beside it, as .pub"
_PUBLIC = "the signer's public key, which came on another way than the bundle"
_BUNDLE = "the folder of the bundle"


@command(
    out="folder to write to (default: cloister-bundle)",
    key=_KEY,
    part_mib="largest file in MiB, such as 1900 (default: no limit)",
    no_model="leave the model out: an upgrade of a machine that has it",
    set_=SET,
)
def make(
    _: Context,
    key: str,
    out: str = "cloister-bundle",
    part_mib: int = 0,
    no_model: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Put images, model, Python packages and configuration into one signed folder."""
    from pathlib import Path

    from cloister import config, console, deployment
    from cloister.bundle import make as bundle

    loaded = config.load(flags=set_ or [])
    engine = deployment.resolve(loaded.settings).engine
    options = bundle.Options(Path(out).resolve(), Path(key), (part_mib << 20) or None)
    with console.steps() as report:
        planned = bundle.plan(loaded, engine, with_model=not no_model)
        made = bundle.make(planned, options, report)
    console.show(str(made))
    console.say(f"carry `{key}.pub` and scripts/bundle.sh on another way than the bundle")


@command(key=f"file of the new key (default: cloister.key). {_KEY}")
def keygen(_: Context, key: str = "cloister.key") -> None:
    """Make an Ed25519 key to sign bundles with."""
    from pathlib import Path

    from cloister import console
    from cloister.bundle import signing

    public = signing.make_key(Path(key))
    console.say(f"`{key}` signs: keep it to yourself. `{public}` checks: give it to the far side")


@command(bundle=_BUNDLE, key=_PUBLIC)
def verify(_: Context, bundle: str, key: str) -> None:
    """Check a bundle's signature and every byte of it; code 12 if it is not what was signed."""
    from cloister.bundle import far

    far.run("verify", bundle, "--key", key)


@command(bundle=_BUNDLE, key=_PUBLIC, into="folder to install into, or to upgrade")
def install(_: Context, bundle: str, key: str, into: str) -> None:
    """Check a bundle, load its images and copy it into a folder; builds and pulls nothing."""
    from cloister.bundle import far

    far.run("install", bundle, "--key", key, "--into", into)

"""The models: downloaded, listed, verified, chosen, removed."""

from invoke.context import Context

from tasks.command import JSON, SET, command, settings

_MODEL = "a model such as nanonets/Nanonets-OCR2-3B"
_REVISION = "a commit, or its first digits (default: the only one that is there)"


@command(
    model=f"{_MODEL} (default: `model.name`)",
    revision="a branch, tag or commit (default: what is locked, else main)",
    deadline_s="seconds for everything (default: a day)",
    json_=JSON,
    set_=SET,
)
def download(
    _: Context,
    model: str | None = None,
    revision: str | None = None,
    deadline_s: int = 0,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Download the model, verify every byte and lock it; goes on where it was interrupted."""
    from cloister import console, models

    chosen = settings(set_ or [], **{"model.name": model})
    pin = models.download(chosen, models.Request(revision, deadline_s or None))
    if json_:
        console.dump(pin)
        return
    console.show(f"{pin.model} at {pin.revision}: {pin.size / 1e9:.2f} GB, every byte verified")
    base = f" (made from {pin.base_model})" if pin.base_model else ""
    console.say(f"licence: {pin.licence or 'none declared'}{base}; the weights' is yours to check")
    use = f"invoke models.use --model {pin.model} && " if model else ""
    console.say(f"next: {use}invoke up --set engine=vllm-cuda")


@command(json_=JSON, set_=SET)
def list_(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """List the models that are there, complete or not."""
    from cloister import console, models

    found = models.listing(settings(set_ or []))
    if json_:
        console.dump(
            [
                {**vars(revision), "licence": pin and pin.licence, "served": served}
                for revision, pin, served in found
            ]
        )
        return
    rows = [
        (
            ("* " if served else "  ") + revision.model,
            revision.revision[:12],
            revision.state,
            f"{revision.size / 1e9:.2f}",
            pin and (pin.licence or "none declared"),
            revision.detail,
        )
        for revision, pin, served in found
    ]
    console.table(("model", "revision", "state", "GB", "licence", ""), rows)


@command(model=f"{_MODEL} (default: all)", json_=JSON, set_=SET)
def verify(
    _: Context, model: str | None = None, json_: bool = False, set_: list[str] | None = None
) -> None:
    """Compare every byte of the models with models.lock.yaml, without a network; code 4 if not."""
    from cloister import console, models

    pins = models.verify(settings(set_ or []), model)
    if json_:
        console.dump([{"model": p.model, "revision": p.revision, "size": p.size} for p in pins])
        return
    for pin in pins:
        console.show(f"{pin.model} at {pin.revision}: {len(pin.files)} files are what was locked")


@command(model=_MODEL, revision=_REVISION, set_=SET)
def remove(
    _: Context, model: str, revision: str | None = None, set_: list[str] | None = None
) -> None:
    """Remove a model that is not being served, and its entry in the lock."""
    from cloister import console, models

    freed = models.remove(settings(set_ or []), model, revision)
    console.say(f"removed {model}: {freed / 1e9:.2f} GB are free again")


@command(model=_MODEL, revision=_REVISION, set_=SET)
def use(_: Context, model: str, revision: str | None = None, set_: list[str] | None = None) -> None:
    """Serve another model that is there: writes its name and revision to cloister.yaml."""
    from cloister import console, models

    path = models.use(settings(set_ or []), model, revision)
    console.say(f"`{path}` names {model} now; next: invoke up")

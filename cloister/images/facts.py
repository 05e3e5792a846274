"""Facts of a built image, told by its own programs: nothing else knows what is really inside."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import docker
import requests
from docker.errors import APIError
from docker.models.containers import Container
from docker.types import LogConfig

from cloister.errors import ImageError
from cloister.images.catalogue import REVISION_LABEL, Fact, Image
from cloister.images.inspection import described

MODEL = "model"
_RUN_S = 60.0
_LOGS = LogConfig(type=LogConfig.types.JSON)  # an engine's own choice may not be readable
_TOLD = 200  # characters of what a program printed


def facts(client: docker.DockerClient, image: Image, reference: str) -> Mapping[str, str]:
    """Return what images.yaml asks of an image, by name; `model` is the revision that it carries.

    Each program runs by itself, without a network and on a read-only root. Raises ImageError when
    one fails, takes longer than a minute, or prints something else.
    """
    labels = described(client, reference)["Config"].get("Labels") or {}
    found = {fact.name: _fact(client, reference, fact) for fact in image.facts}
    if labels.get(REVISION_LABEL):
        found[MODEL] = labels[REVISION_LABEL]
    return found


def smoke(client: docker.DockerClient, image: Image, reference: str) -> None:
    """Start what the image starts, with the arguments that images.yaml calls `smoke`.

    Raises ImageError unless it ends well.
    """
    entry = described(client, reference)["Config"].get("Entrypoint") or ()
    code, printed = _printed(client, reference, (*entry, *image.smoke))
    if code != 0:
        last = " ".join(printed.split())[-_TOLD:] or "nothing"
        raise ImageError(f"`{reference}` does not start: code {code}, and it printed {last}")


def _fact(client: docker.DockerClient, reference: str, fact: Fact) -> str:
    code, printed = _printed(client, reference, fact.run)
    match = fact.pattern.search(printed)
    value = match[1] if match else None
    if code != 0 or not value:
        last = " ".join(printed.split())[-_TOLD:] or "nothing"
        raise ImageError(
            f"`{reference}` does not tell its {fact.name}: `{fact.run[0]}` ended with code {code} "
            f"and printed {last}",
            hint="look at `facts` of this image in images/images.yaml",
        )
    return value


def _printed(client: docker.DockerClient, reference: str, run: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of a program in the image, and all that it printed."""
    with _container(client, reference, run) as container:
        try:
            container.start()
            code = container.wait(timeout=_RUN_S)["StatusCode"]
            return code, container.logs().decode(errors="replace")
        except APIError as error:
            said = " ".join(str(error.explanation or error).split())
            raise ImageError(f"`{reference}` cannot run `{run[0]}`: {said[:_TOLD]}") from error
        except (requests.Timeout, requests.ConnectionError) as error:
            raise ImageError(
                f"`{run[0]}` in `{reference}` did not end within {_RUN_S:g} s"
            ) from error


@contextmanager
def _container(
    client: docker.DockerClient, reference: str, run: tuple[str, ...]
) -> Iterator[Container]:
    container = client.containers.create(
        reference,
        entrypoint=[run[0]],
        command=list(run[1:]),
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        log_config=_LOGS,
    )
    try:
        yield container
    finally:
        container.remove(force=True)

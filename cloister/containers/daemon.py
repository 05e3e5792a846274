"""The Docker engine, through its SDK: reached, new enough, or an error that says what to type."""

import contextlib
import errno
import re
from collections.abc import Callable, Iterator

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from requests.exceptions import RequestException
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from cloister.errors import DeploymentError, ToolError

MINIMUM_ENGINE = (20, 10)  # the oldest that the seal was proven on; see docs/containers.md
_TIMEOUT_S = 60
_ENDPOINTS_S, _ENDPOINTS_PAUSE_S = 60.0, 1.0
_PROJECT_LABEL, _SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"


def connect() -> docker.DockerClient:
    """Return a client of the engine that DOCKER_HOST names, or this machine's.

    Raises ToolError when there is none, when this user may not use it, or when it is too old.
    """
    try:
        client = docker.from_env(timeout=_TIMEOUT_S)
        version = client.version()["Version"]
    except (DockerException, RequestException) as error:
        raise _unreachable(error) from error
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < MINIMUM_ENGINE:
        wanted = ".".join(map(str, MINIMUM_ENGINE))
        raise ToolError(
            f"the Docker engine is version {version}; expected {wanted} or newer",
            hint="upgrade it; 28 or newer closes more by itself (docs/containers.md)",
        )
    return client


def members(client: docker.DockerClient, project: str) -> dict[str, Container]:
    """Return the containers of a Compose project by their service, one-off runs left out."""
    labels = [f"{_PROJECT_LABEL}={project}", "com.docker.compose.oneoff=False"]
    found = client.containers.list(all=True, filters={"label": labels})
    return {str(container.labels[_SERVICE_LABEL]): container for container in found}


def stop(container: Container) -> None:
    """Stop a container within its own grace period.

    Without a number the SDK waits only 70 s for Docker's answer.
    """
    container.stop(timeout=container.attrs["Config"].get("StopTimeout"))


def once_released(remove: Callable[[], object]) -> None:
    """Remove networks.

    A busy Docker releases an endpoint some time after its container is gone, and refuses to remove
    the network until then.
    """
    Retrying(
        retry=retry_if_exception(lambda error: "active endpoints" in str(error)),
        stop=stop_after_delay(_ENDPOINTS_S),
        wait=wait_fixed(_ENDPOINTS_PAUSE_S),
        reraise=True,
    )(remove)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what the engine refuses into a DeploymentError of one line, and silence to ToolError."""
    try:
        yield
    except ImageNotFound as error:
        raise DeploymentError(
            f"an image is missing: {error.explanation}", hint="invoke images.build"
        ) from error
    except NotFound as error:
        raise DeploymentError(f"Docker: {error.explanation}", hint="invoke status") from error
    except APIError as error:
        raise DeploymentError(f"Docker refused: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:  # the SDK passes on what requests raises
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> ToolError:
    text = str(error)
    if re.search(rf"\[Errno {errno.EACCES}\]|[Pp]ermission denied", text):
        return ToolError(
            "this user may not use Docker (its socket refuses)",
            hint="sudo usermod -aG docker $USER, then log in again",
        )
    if re.search(rf"\[Errno ({errno.ENOENT}|{errno.ECONNREFUSED})\]|No such file", text):
        return ToolError(
            "no Docker engine runs here (nobody answers on its socket)",
            hint="start it (sudo systemctl start docker), install it (Debian: apt-get install "
            "docker.io), or use `--set runtime=process`",
        )
    return ToolError(f"the Docker engine does not answer: {text[:200]}", hint="docker info")

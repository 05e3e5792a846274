"""images/images.yaml as values: the only list of images."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from cloister.config import DockerSettings, project_root


class Image(BaseModel):
    """One image; `base` is what its Dockerfile starts from, `stand_in` a local one like it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    dockerfile: str
    base: str
    stand_in: str | None = None
    engine: Literal["cuda", "cpu"] | None = None
    platforms: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its Dockerfile is, below the project's root."""
        return Path("images") / self.dockerfile

    def reference(self, docker: DockerSettings) -> str:
        """Return the name and tag under which it is built and run."""
        return f"{docker.images}/{self.name}:{docker.tag}"

    def baked(self, docker: DockerSettings) -> str:
        """Return the name and tag of the same image with the model inside."""
        return f"{self.reference(docker)}-model"


@functools.cache
def catalogue() -> Mapping[str, Image]:
    """Return every image by its name, in the order of the file."""
    text = (project_root() / "images" / "images.yaml").read_text(encoding="utf-8")
    entries = {name: {"name": name, **entry} for name, entry in yaml.safe_load(text).items()}
    return TypeAdapter(dict[str, Image]).validate_python(entries)

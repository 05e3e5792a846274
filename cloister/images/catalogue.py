"""images/images.yaml as values: the only list of images."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from cloister.config import DockerSettings, project_root

LABEL = "org.opencontainers.image."
MODEL_LABEL, REVISION_LABEL = "cloister.model", "cloister.model.revision"  # of a baked image


class Fact(BaseModel):
    """What a program inside an image prints of it: `run` is the program with its arguments.

    The one group of `pattern` is the value; it becomes a part of a tag.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    run: tuple[str, ...] = Field(min_length=1)
    pattern: re.Pattern[str]

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: re.Pattern[str]) -> re.Pattern[str]:
        if pattern.groups != 1:
            raise ValueError(f"`{pattern.pattern}` has {pattern.groups} groups; expected one")
        return pattern


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
    facts: tuple[Fact, ...] = ()
    smoke: tuple[str, ...] = ("--help",)

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

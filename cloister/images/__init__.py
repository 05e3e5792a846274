"""The images: one list, built by BuildKit, each tested before anybody runs it."""

from cloister.images import lock, manifest
from cloister.images.build import Build, Options, authority, build, known, plan_builds, source
from cloister.images.catalogue import Image, catalogue
from cloister.images.facts import facts, smoke
from cloister.images.inspection import Facts, inspect, verify
from cloister.images.manifest import Published
from cloister.images.packages import Package
from cloister.images.tags import Tags, annotations, tags

__all__ = [
    "Build",
    "Facts",
    "Image",
    "Options",
    "Package",
    "Published",
    "Tags",
    "annotations",
    "authority",
    "build",
    "catalogue",
    "facts",
    "inspect",
    "known",
    "lock",
    "manifest",
    "plan_builds",
    "smoke",
    "source",
    "tags",
    "verify",
]

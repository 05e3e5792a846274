"""The images: one list, built by BuildKit, each tested before anybody runs it."""

from cloister.images.build import Build, Options, authority, build, known, plan_builds, source
from cloister.images.catalogue import Image, catalogue
from cloister.images.inspection import Facts, inspect, verify

__all__ = [
    "Build",
    "Facts",
    "Image",
    "Options",
    "authority",
    "build",
    "catalogue",
    "inspect",
    "known",
    "plan_builds",
    "source",
    "verify",
]

"""How an image came to be, as a predicate of SLSA 1.0, pure: https://slsa.dev/spec/v1.0."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cloister

KIND = "slsaprovenance1"
# What `externalParameters` mean is in docs/publishing.md.
BUILD_TYPE = "urn:cloister:images.build:1"
_BY_HAND = "urn:cloister:by-hand"
_CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class Origin:
    """Who builds, and from where: `builder` is a URI, `source` that of the repository."""

    builder: str
    source: str
    invocation: str | None = None


@dataclass(frozen=True)
class Built:
    """One build: the image's name, its base with a digest or without, and when that was."""

    image: str
    dockerfile: str
    base: str
    revision: str
    arguments: Mapping[str, str]
    began: dt.datetime
    ended: dt.datetime


def origin(environ: Mapping[str, str], remote: str) -> Origin:
    """Return who builds: a workflow of GitHub, a pipeline of GitLab, or a person; pure.

    `remote` is the URL of git's origin, empty where there is none; a token in it stays out.
    """
    source = f"git+{_CREDENTIALS.sub('//', remote)}" if "://" in remote else "git"
    if environ.get("GITHUB_WORKFLOW_REF"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        run = f"{environ.get('GITHUB_REPOSITORY')}/actions/runs/{environ.get('GITHUB_RUN_ID')}"
        return Origin(f"{server}/{environ['GITHUB_WORKFLOW_REF']}", source, f"{server}/{run}")
    if environ.get("GITLAB_CI"):
        return Origin(f"https://{environ['CI_CONFIG_REF_URI']}", source, environ.get("CI_JOB_URL"))
    return Origin(_BY_HAND, source)


def predicate(built: Built, origin: Origin) -> dict[str, Any]:
    """Return the predicate."""
    name, _, digest = built.base.partition("@sha256:")
    base = {"name": "base", "uri": f"docker://{name}"}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "image": built.image,
                "dockerfile": built.dockerfile,
                "arguments": dict(built.arguments),
            },
            "resolvedDependencies": [
                {
                    "name": "source",
                    "uri": origin.source,
                    "digest": {"gitCommit": built.revision},
                },
                {**base, "digest": {"sha256": digest}} if digest else base,
            ],
        },
        "runDetails": {
            "builder": {"id": origin.builder, "version": {"cloister": cloister.VERSION}},
            "metadata": {
                **({"invocationID": origin.invocation} if origin.invocation else {}),
                "startedOn": _time(built.began),
                "finishedOn": _time(built.ended),
            },
        },
    }


def material(predicate: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a predicate says was built from: `source` or `base`, nothing if neither."""
    found = predicate.get("buildDefinition", {}).get("resolvedDependencies", ())
    return next((each for each in found if each.get("name") == name), {})


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

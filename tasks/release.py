"""Releases."""

from invoke.context import Context

from tasks.command import command


@command(
    version="the version to release, such as 1.4.0",
    dry_run="check and tell what would be done, and do nothing",
)
def release(_: Context, version: str, dry_run: bool = False) -> None:
    """Date the changelog, set the version, commit and tag; pushing is left to you."""
    from cloister import config, console
    from cloister import release as releases

    root = config.project_root()
    planned = releases.plan(version, releases.read(root, version), releases.today())
    if dry_run:
        for line in planned.steps:
            console.show(line)
        return
    for line in releases.make(root, planned):
        console.say(line)
    console.show(planned.push)

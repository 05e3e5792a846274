"""What is published is a commit: nothing that is not in it, and of a release its tag."""

import cloister
from cloister import shell
from cloister.config import project_root
from cloister.errors import PublishError

_NAMED = 3


def require(*, released: bool) -> None:
    """Raise PublishError unless this checkout is a commit without changes, tagged if released."""
    changed = [line[3:] for line in _git("status", "--porcelain").splitlines()]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise PublishError(
            f"this checkout has changes: {', '.join(changed[:_NAMED])}{more}",
            hint="commit them, or publish from a clean clone",
        )
    wanted = f"v{cloister.VERSION}"
    if released and wanted not in _git("tag", "--points-at", "HEAD").splitlines():
        raise PublishError(
            f"this commit has no tag {wanted}, so it is no release",
            hint=f"git checkout {wanted}; or without --release: the commit's own tag",
        )


def remote() -> str:
    """Return the URL of git's origin, empty where there is none."""
    root = str(project_root())
    return shell.run(("git", "-C", root, "remote", "get-url", "origin"), check=False).stdout.strip()


def _git(*arguments: str) -> str:
    result = shell.run(("git", "-C", str(project_root()), *arguments), check=False)
    if result.code != 0:
        raise PublishError(
            f"git says nothing of {project_root()}: what is published is a commit",
            hint="publish from a clone",
        )
    return result.stdout

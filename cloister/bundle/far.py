"""The far side's script, run from here; it needs nothing of ours."""

from cloister import shell
from cloister.config import project_root
from cloister.errors import BundleError


def run(*arguments: str) -> None:
    """Run scripts/bundle.sh; raises BundleError when it ends with another code than 0."""
    command = [str(project_root() / "scripts" / "bundle.sh"), *arguments]
    if shell.attend(command, environment={}) != 0:
        raise BundleError("")  # it has said why

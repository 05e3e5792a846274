"""What this machine has and lacks, told before anything is started."""

from cloister import config, deployment
from cloister.config import Settings, project_root
from cloister.files import write_atomically
from cloister.rendering import protection


def prepare(settings: Settings) -> list[str]:
    """Check what `up` will need and write cloister.yaml if there is none; return what was found.

    Raises ToolError, EngineError, DeploymentError, ModelStoreError or OcrError for what is missing.
    """
    settings = deployment.resolve(settings)
    deployment.runtime(settings).check()
    path = project_root() / "cloister.yaml"
    if not path.exists():
        write_atomically(path, config.default_yaml())
        written = f"wrote `{path}` with every setting at its default"
    else:
        written = f"kept `{path}` as it is"
    return [
        f"engine: {settings.engine}",
        f"runtime: {settings.runtime}",
        written,
        f"renderer sandbox: {protection.summarize(protection.find_missing())}",
        "next: invoke up",
    ]

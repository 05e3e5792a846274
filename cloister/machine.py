"""What this machine has and lacks, told before anything is started."""

from cloister import config, nginx
from cloister.config import Settings, project_root
from cloister.engines import ENGINES, choose
from cloister.files import write_atomically


def prepare(settings: Settings) -> list[str]:
    """Check what `up` will need and write cloister.yaml if there is none; return what was found.

    Raises ToolError or EngineError for what is missing.
    """
    engine = choose(settings.engine)
    ENGINES[engine].check(settings)
    program = nginx.find(settings.gateway.nginx)
    path = project_root() / "cloister.yaml"
    if not path.exists():
        write_atomically(path, config.default_yaml())
        written = f"wrote `{path}` with every setting at its default"
    else:
        written = f"kept `{path}` as it is"
    return [f"engine: {engine}", f"nginx: {program}", written, "next: invoke up"]

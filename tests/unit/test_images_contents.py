"""What an image has of the code, and of packages, is all that its modules import."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = sorted(
    path.parent.name
    for path in (ROOT / "images").glob("*/Dockerfile")
    if '"-m", "cloister.' in path.read_text()
)
# Imports modules where nothing is installed but the distributions on the standard input.
_IMPORT = """
import importlib, sys
from importlib.metadata import packages_distributions

has = set(sys.stdin.read().split())
missing = {
    top
    for top, names in packages_distributions().items()
    if not has & {name.lower().replace("_", "-") for name in names} | {"cloister"} & {top}
}

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)

sys.meta_path.insert(0, Missing)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def _copy(image: str, to: Path) -> list[str]:
    """Copy the code that an image gets; return the names of the modules."""
    lines = (ROOT / "images" / image / "Dockerfile.dockerignore").read_text().splitlines()
    modules = []
    for path in sorted((ROOT / "cloister").rglob("*.py")):
        name, is_in = str(path.relative_to(ROOT)), False
        for line in lines:  # the last one that fits holds
            pattern = line.removeprefix("!")
            if name.startswith(f"{pattern}/") or fnmatch.fnmatch(name, pattern):
                is_in = line.startswith("!")
        if is_in:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / name)
            modules.append(".".join(Path(name).with_suffix("").parts).removesuffix(".__init__"))
    return modules


def test_images_have_programs_of_ours() -> None:
    assert IMAGES == ["downloader", "engine-tesseract", "exporter", "vllm"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_all_that_its_modules_import(image: str, tmp_path: Path) -> None:
    modules = _copy(image, tmp_path)
    installed = ROOT / "requirements" / f"{image}.txt"
    listed = installed.read_text() if installed.exists() else ""
    has = re.findall(r"^([\w.-]+)==", listed, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORT, *modules],
        cwd="/",
        env={"PYTHONPATH": str(tmp_path)},
        input=" ".join(has).lower(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""What is in a bundle, as a CycloneDX list: images, Debian and Python packages, the model."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import parse_wheel_filename

import cloister
from cloister.bundle.archive import Saved
from cloister.containers import archives
from cloister.images.packages import Package, Records
from cloister.modelstore import Pin


def render(images: Sequence[Saved], wheels: Iterable[Path], pin: Pin | None) -> str:
    """Return the list as JSON."""
    bom = Bom()
    root = Component(
        type=ComponentType.APPLICATION,
        name="cloister",
        version=cloister.VERSION,
        bom_ref="cloister",
    )
    bom.metadata.component = root
    for image in images:
        bom.components.add(_image(image))
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        bom.components.add(_package("pypi", name, str(version), "wheels"))
    if pin is not None:
        bom.components.add(_model(pin))
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _image(image: Saved) -> Component:
    name, _, tag = image.reference.rpartition(":")
    algorithm = HashAlgorithm.SHA_256
    component = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=tag,
        bom_ref=image.reference,
        hashes=[HashType(alg=algorithm, content=image.digest.removeprefix("sha256:"))],
    )
    for package in _packages(image):
        component.components.add(
            _package(package.kind, package.name, package.version, image.reference)
        )
    return component


def _model(pin: Pin) -> Component:
    component = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=pin.model,
        version=pin.revision,
        bom_ref=f"{pin.model}@{pin.revision}",
        properties=[Property(name="licence as declared", value=pin.licence or "none declared")],
    )
    for name, file in pin.files.items():
        component.components.add(
            Component(
                type=ComponentType.FILE,
                name=name,
                bom_ref=f"{pin.model}@{pin.revision}/{name}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
            )
        )
    return component


def _package(kind: str, name: str, version: str, where: str) -> Component:
    namespace = "debian" if kind == "deb" else None
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{where}/{kind}/{name}@{version}",
        purl=PackageURL(type=kind, namespace=namespace, name=name, version=version),
    )


def _packages(image: Saved) -> tuple[Package, ...]:
    """Return every package that the image's own records name."""
    records = Records()
    for layer in image.layers:
        with archives.reading(f"a layer of `{image.reference}`", layer.path) as archive:
            records.add(archive)
    return records.packages()

"""Cloister's configuration: one strict schema, four sources, and where each value came from."""

from cloister.config.document import default_yaml, markdown_table
from cloister.config.edit import with_keys
from cloister.config.fields import IpNetwork, parse_difference, project_root
from cloister.config.gateway_section import GatewaySettings
from cloister.config.loading import FILE_NAME, Loaded, Setting, changed, load
from cloister.config.schema import Settings
from cloister.config.sections import (
    DockerSettings,
    EnginesSettings,
    ModelSettings,
    OcrSettings,
    TesseractSettings,
)
from cloister.config.sources import API_KEY_VARIABLE, CONFIG_VARIABLE

__all__ = [
    "API_KEY_VARIABLE",
    "CONFIG_VARIABLE",
    "FILE_NAME",
    "DockerSettings",
    "EnginesSettings",
    "GatewaySettings",
    "IpNetwork",
    "Loaded",
    "ModelSettings",
    "OcrSettings",
    "Setting",
    "Settings",
    "TesseractSettings",
    "changed",
    "default_yaml",
    "load",
    "markdown_table",
    "parse_difference",
    "project_root",
    "with_keys",
]

"""The schema's sections: every key with its type, range, default and meaning, said once."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from pydantic import Field

import cloister
from cloister.config.fields import (
    Differences,
    Gpus,
    ImagePrefix,
    ImageTag,
    Languages,
    ModelName,
    OptionalPath,
    OptionalRevision,
    ProjectName,
    Prompt,
    StoreDir,
    Subnet,
    Weights,
)
from cloister.config.section import Section


class ModelSettings(Section):
    """The model that clients ask for."""

    name: ModelName = Field(
        default="nanonets/Nanonets-OCR2-3B",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$",
        max_length=200,
        description="The model: its name at the hub, in requests, and of its file in profiles/",
    )
    revision: OptionalRevision = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of the model that is served; null takes the one that was locked last",
    )
    store: StoreDir = Field(
        default=Path("models"),
        description="Folder of all downloaded models; relative to the project's folder",
    )
    folder: OptionalPath = Field(
        default=None,
        description="Folder of a model outside the store, to be served instead, unverified",
    )
    synthetic: bool = Field(
        default=False,
        description="The weights are noise, to test and to measure: no page is asked to be read "
        "rightly before traffic",
    )


class EnginesSettings(Section):
    """The engines, which answer the gateway alone."""

    first_port: int = Field(
        default=8101,
        ge=3,
        le=65000,
        description="Without effect: engines listen on Unix sockets. Files of earlier versions "
        "have it",
    )
    weights: Weights = Field(
        default=(),
        description="Share of the pages that each replica gets, one whole number a replica; empty "
        "for equal shares",
    )
    gpus: Gpus = Field(
        default=(),
        description="Cards that replicas may use, by nvidia-smi's numbers; empty for all of them",
    )
    per_gpu: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Most replicas on one card, which share `vllm.gpu_memory_percent` of it",
    )


class TesseractSettings(Section):
    """The Tesseract engine."""

    languages: Languages = Field(
        default="eng",
        pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$",
        max_length=200,
        description="Languages of the pages, the main one first",
    )
    tessdata_dir: OptionalPath = Field(
        default=None,
        description="Folder of *.traineddata files; null takes the bundled English data",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Worker processes of each replica; null shares this machine's cores among them",
    )
    queue_depth: int = Field(
        default=32,
        ge=0,
        le=10000,
        description="Requests of each replica that may wait for a worker; beyond it 503",
    )
    page_timeout_s: int = Field(
        default=120, ge=1, le=3600, description="Longest time for one page, in seconds"
    )
    max_megapixels: int = Field(
        default=100, ge=1, le=500, description="Largest image, in millions of pixels"
    )
    max_images: int = Field(default=16, ge=1, le=256, description="Images in one request")


class DockerSettings(Section):
    """The docker runtime."""

    project: ProjectName = Field(
        default="cloister",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Compose project: the prefix of the containers' and networks' names",
    )
    subnet: Subnet = Field(
        default=IPv4Network("172.30.40.0/24"),
        description="Addresses of the project's networks: a /24 that nothing else here uses",
    )
    images: ImagePrefix = Field(
        default="cloister",
        pattern=r"^[a-z0-9][a-z0-9._:/-]{0,200}$",
        description="Registry and folder of the images",
    )
    tag: ImageTag = Field(
        default=cloister.VERSION,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
        description="Tag of the images",
    )
    engine_network: Literal["none", "internal"] = Field(
        default="none",
        description="What engines are on: no network at all, or `internal`, a network of Docker's "
        "from which page text can leave, as `invoke verify` reports",
    )
    baked: bool = Field(
        default=False,
        description="Take the model from vLLM's image, where `invoke images.build --bake` put it",
    )
    override: OptionalPath = Field(
        default=None,
        description="A Compose file of your own, merged last; "
        "`invoke verify` reports what it opens",
    )
    allowed_differences: Differences = Field(
        default=(),
        description="Intended differences from the plan, such as those of `docker.override`, as "
        "the lines that `invoke verify` prints; it then reports them as accepted risks",
    )
    gateway_memory_mib: int = Field(
        default=1536,
        ge=128,
        le=1048576,
        description="Memory limit of the gateway; two thirds of it hold bodies that are being sent",
    )
    engine_memory_mib: int = Field(
        default=8192, ge=256, le=16777216, description="Memory limit of each replica, in MiB"
    )


class OcrSettings(Section):
    """The client: `invoke ocr`."""

    dpi: int = Field(
        default=200, ge=72, le=600, description="Resolution at which a PDF page becomes an image"
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Pages under way at once; null begins with what the service reads at once, and "
        "takes more or fewer as it answers",
    )
    renderers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Processes that turn pages into images; null takes half of the cores, up to 4",
    )
    page_timeout_s: int = Field(
        default=60,
        ge=1,
        le=3600,
        description="Longest time to turn one page into an image, in seconds",
    )
    max_file_mib: int = Field(
        default=2048,
        ge=1,
        le=1048576,
        description="Largest input file, in MiB; a larger one counts as not read",
    )
    file_timeout_s: int = Field(
        default=300,
        ge=1,
        le=86400,
        description="Longest time to read one input file for its hash, in seconds",
    )
    memory_mib: int = Field(
        default=2048,
        ge=256,
        le=65536,
        description="Most memory of a process that turns pages into images, in MiB",
    )
    attempts: int = Field(
        default=4,
        ge=1,
        le=10,
        description="Ways in which a page is asked for until it is given up: other temperatures, "
        "resolutions, in pieces",
    )
    text_layer: Literal["never", "fallback", "auto"] = Field(
        default="never",
        description="Whether a PDF page's own text is taken, where it is good: for a page that was "
        "not read, or in place of reading",
    )
    tags: Literal["keep", "strip", "map"] = Field(
        default="keep",
        description="The model's tags, such as <page_number>: kept, out, or as plain Markdown",
    )
    headers: Literal["keep", "remove"] = Field(
        default="keep", description="Running headers and footers, found across a document's pages"
    )
    tables: Literal["keep", "join"] = Field(
        default="keep", description="Tables that go on on the next page: as they are, or made one"
    )
    max_tokens: int = Field(
        default=15000, ge=1, le=131072, description="Longest answer for one page, in tokens"
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Randomness of the answers; 0 is none"
    )
    prompt: Prompt = Field(
        default="Convert this page to Markdown, with tables as HTML and equations as LaTeX.",
        min_length=1,
        max_length=20000,
        description="What the model is asked to do with a page",
    )

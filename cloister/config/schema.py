"""The schema as a whole, and what holds between its keys."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from cloister.config.fields import StateDir, refusal
from cloister.config.fleet_sections import AutoscaleSettings, HealingSettings
from cloister.config.gateway_section import GatewaySettings
from cloister.config.section import Section
from cloister.config.sections import (
    DockerSettings,
    EnginesSettings,
    ModelSettings,
    OcrSettings,
    TesseractSettings,
)
from cloister.config.vllm_section import VllmSettings


class Settings(Section):
    """The whole configuration, valid as a whole; `state_dir` is absolute.

    Raises pydantic.ValidationError when it is built by hand; `load` raises ConfigError instead.
    """

    runtime: Literal["process", "docker"] = Field(
        default="process",
        description="What runs the parts: child processes of this machine, or sealed containers",
    )
    engine: Literal["auto", "tesseract", "vllm-cuda", "vllm-cpu"] = Field(
        default="auto",
        description="What reads the pages; auto takes vllm-cuda where a GPU and a model are, "
        "else tesseract",
    )
    replicas: int = Field(default=1, ge=1, le=64, description="Engines behind the gateway")
    state_dir: StateDir = Field(
        default=Path(".cloister"),
        description="Folder for logs, sockets and rendered files; relative to the project's folder",
    )
    insecure: bool = Field(
        default=False,
        description="Allow a gateway.address that other machines reach, without API keys or "
        "without a certificate",
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    engines: EnginesSettings = Field(default_factory=EnginesSettings)
    healing: HealingSettings = Field(default_factory=HealingSettings)
    autoscale: AutoscaleSettings = Field(default_factory=AutoscaleSettings)
    tesseract: TesseractSettings = Field(default_factory=TesseractSettings)
    vllm: VllmSettings = Field(default_factory=VllmSettings)
    docker: DockerSettings = Field(default_factory=DockerSettings)
    ocr: OcrSettings = Field(default_factory=OcrSettings)

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        gateway = self.gateway
        if gateway.address.is_loopback or self.insecure or (gateway.keys and gateway.certificate):
            return self
        raise refusal(
            f"is {gateway.address}, which other machines can reach, without API keys and a "
            "certificate",
            hint="invoke keys.create NAME and invoke tls.create, or accept the risk with "
            "`insecure: true`",
            key="gateway.address",
        )

    @model_validator(mode="after")
    def _certificates_whole(self) -> Self:
        gateway = self.gateway
        if gateway.certificate is not None and gateway.certificate_key is None:
            raise refusal(
                "is missing, and `gateway.certificate` is of no use without it",
                hint="name the PEM file of its private key; invoke tls.create makes both",
                key="gateway.certificate_key",
            )
        if gateway.client_ca and not (gateway.certificate and gateway.client_certificate):
            raise refusal(
                "needs `gateway.certificate`, and `gateway.client_certificate` for `invoke` itself",
                hint="invoke tls.create --client makes all of them",
                key="gateway.client_ca",
            )
        return self

    @model_validator(mode="after")
    def _a_weight_a_replica(self) -> Self:
        count = len(self.engines.weights)
        if count not in {0, self.replicas}:
            raise refusal(
                f"has {count} numbers for {self.replicas} replicas",
                hint="give one number a replica, or none",
                key="engines.weights",
            )
        return self

    @model_validator(mode="after")
    def _least_and_most(self) -> Self:
        if self.autoscale.min > self.autoscale.max:
            raise refusal(
                f"is {self.autoscale.min}, and `autoscale.max` is {self.autoscale.max}",
                hint="lower one or raise the other",
                key="autoscale.min",
            )
        return self

    @model_validator(mode="after")
    def _noise_is_said_to_be_noise(self) -> Self:
        if self.vllm.load_format == "dummy" and not self.model.synthetic:
            raise refusal(
                "is dummy, but `model.synthetic` is false: no page could be read",
                hint="set `model.synthetic: true` for tests and measurements",
                key="vllm.load_format",
            )
        return self

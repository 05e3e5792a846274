"""The schema's sections of the fleet: when a replica is sick, and how many there are to be."""

from pydantic import Field

from cloister.config.section import Section


class HealingSettings(Section):
    """The watchdog, which takes sick replicas out of the gateway and restarts them."""

    enabled: bool = Field(default=True, description="Whether there is a watchdog")
    interval_s: int = Field(
        default=2, ge=1, le=60, description="Time between two looks at a replica, in seconds"
    )
    silence_s: int | None = Field(
        default=None,
        ge=2,
        le=3600,
        description="Longest time in which a replica may not answer for its numbers, in seconds; "
        "null: what its engine may need",
    )
    stall_s: int | None = Field(
        default=None,
        ge=2,
        le=7200,
        description="Longest time without any progress on the pages that a replica has, in "
        "seconds; null: what its engine may need",
    )
    canary_s: int = Field(
        default=60,
        ge=2,
        le=3600,
        description="Time between two test pages that every replica has to read, in seconds",
    )
    memory_mib: int | None = Field(
        default=None,
        ge=64,
        le=16777216,
        description="Memory beyond which a replica is restarted as soon as another can take over, "
        "in MiB; null: 90 % of docker.engine_memory_mib, and never for processes",
    )


class AutoscaleSettings(Section):
    """`invoke autoscale`, which changes `replicas` as pages come."""

    min: int = Field(default=1, ge=1, le=64, description="Fewest replicas")
    max: int = Field(default=4, ge=1, le=64, description="Most replicas")
    target_waiting: float = Field(
        default=4.0,
        ge=0.1,
        le=10000,
        description="Pages that may wait at each replica before there are to be more of them",
    )
    cool_down_s: int = Field(
        default=120,
        ge=5,
        le=86400,
        description="Shortest time between two changes, and the quiet time before there are fewer, "
        "in seconds",
    )

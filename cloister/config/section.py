"""What all sections of the schema have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Keys that belong together: strict, frozen, and closed to unknown ones."""

    # Strict, because the sources parse text by the type of its key: what is still text when it
    # comes to a number is a mistake.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

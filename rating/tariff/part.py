"""Pure: what all tables of a tariff file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and refuses keys that it does not know. (Lists of the file become tuples.)"""

    model_config = ConfigDict(frozen=True, extra="forbid")

"""Pure: the JSON Schema of a tariff file, from the model: what an editor can check and complete while one writes.

It says less than `meterd tariff check`: what several keys say together (a gap in the day, bounds that do not rise) no
schema can.
"""

from __future__ import annotations

from typing import Any, Final

from rating.tariff.model import Tariff

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def tariff_schema() -> dict[str, Any]:
    """The schema, with the keys as a file writes them."""
    told = Tariff.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": DRAFT, **told, "title": "meterd tariff"}

"""Writes docs/json/pool-plan.schema.json: `python tests/unit/rendering/pool_plan_schema.py`."""

from __future__ import annotations

import json
from pathlib import Path

from runbook.model.pool_plan import PoolPlan

FILE = Path(__file__).parents[3] / "docs" / "json" / "pool-plan.schema.json"


def schema() -> str:
    """Return the JSON Schema of `runbook pool plan TARGET --format json`, as the file has it."""
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PoolPlan.model_json_schema(mode="serialization"),
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(schema(), encoding="utf-8")

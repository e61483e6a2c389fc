"""Writes the language's schemas: `PYTHONPATH=tests python -m unit.engine.language_schema`.

The playbooks' one stands beside the shipped playbooks, which name it; the others in docs.
"""

from __future__ import annotations

import json
from pathlib import Path

from runbook.engine.schema import inventory_schema, playbook_schema, serve_schema
from runbook.steps import STEPS

ROOT = Path(__file__).parents[3]
PLAYBOOK = ROOT / "src" / "runbook" / "playbooks" / "playbook.schema.json"
INVENTORY = ROOT / "docs" / "json" / "inventory.schema.json"
SERVE = ROOT / "docs" / "json" / "serve.schema.json"


def schemas() -> dict[Path, str]:
    """Return each schema's text by the file that has it."""
    return {
        PLAYBOOK: json.dumps(playbook_schema(STEPS), indent=2) + "\n",
        INVENTORY: json.dumps(inventory_schema(), indent=2) + "\n",
        SERVE: json.dumps(serve_schema(), indent=2) + "\n",
    }


if __name__ == "__main__":
    for file, text in schemas().items():
        file.write_text(text, encoding="utf-8")

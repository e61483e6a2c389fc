"""Records what Ansible itself makes of the fixtures, after one of them has changed.

From the checkout: `PYTHONPATH=. .venv/bin/python tests/unit/adapters/ansible/record.py`.
It installs Ansible once, into the cache that the benches use.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bench.ansible import ansible_playbook

HERE = Path(__file__).parent
#: The same sources that an import takes: no programs, no plugins.
_ENVIRONMENT = {"ANSIBLE_INVENTORY_ENABLED": "yaml,ini"}


def main() -> None:
    """Write expected.json beside each fixture."""
    program = ansible_playbook()
    if program is None:
        raise SystemExit("Ansible cannot be installed here")
    for name in ("shop/hosts.ini", "fleet"):
        said = subprocess.run(
            [program.with_name("ansible-inventory"), "-i", HERE / name, "--list"],
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            check=True,
        )
        target = HERE / f"{Path(name).parts[0]}.json"
        target.write_text(json.dumps(json.loads(said.stdout), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

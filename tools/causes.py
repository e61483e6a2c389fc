"""Writes docs/causes.md from the findings' own words: `make docs`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from runbook.findings.classify import OUTWEIGHS
from runbook.findings.table import FINDINGS
from runbook.findings.view import SATURATED, TIGHT

PAGE = Path(__file__).parents[1] / "docs" / "causes.md"

INTRO = f"""# The causes, and how they are told apart

<!-- Made by `make docs` from the texts in src/runbook/findings: change them there. -->

[diagnose](diagnose.md) names one of these as the cause, others that matter under *Also*, and what
was looked at and held less likely under *Less likely*. The numbers on this page are the ones in
the code.

**How sure** a finding is:

- *certain*: proved by a rule without a known exception, such as a limit of the server's catalogue
- *strong*: by arithmetic or lifetimes, with rare exceptions
- *likely*: more likely than not
- *weak*: a hint; look again, or mend what could not be seen

**The order** is the one of this page, and the one in which to act. Where several causes hold:

- What an earlier cause accounts for is not said a second time: a transaction whose lock others wait
  for is the root of a lock pile-up, not an idle transaction as well.
- One further down comes first when it explains at least {OUTWEIGHS:g} times as many slots; only a
  limit of a role or a database always comes first, as whoever hits it is refused by it alone.
- `replication-limit` takes no ordinary slot: it is the cause only when nothing else is.

**Usable slots** are `max_connections` less `superuser_reserved_connections`, less
`reserved_connections` (PostgreSQL 16 and later), less the superusers' sessions that are open. From
{TIGHT}% of them on the server is called tight, from {SATURATED}% saturated. *Sessions* are those
that hold such a slot: neither walsenders nor parallel workers nor autovacuum do.

| Cause | In a line |
|---|---|
"""


def page() -> str:
    """Return docs/causes.md as it should be."""
    rows = "".join(f"| [`{kind.name}`](#{kind.name}) | {kind.summary} |\n" for kind in FINDINGS)
    sections = (
        f"\n## {kind.name}\n\n{_filled(kind.summary)}\n\n"
        f"{_filled(f'**How it looks.** {kind.looks}')}\n\n"
        f"{_filled(f'**How it is told apart.** {kind.told_apart}')}\n\n"
        f"{_filled(f'**What to do.** {kind.remedy}')}\n"
        for kind in FINDINGS
    )
    return INTRO + rows + "".join(sections)


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, width=100, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stderr.write(f"{PAGE.name} is written\n")

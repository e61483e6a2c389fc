"""Writes plain data as YAML that `yaml_reader` reads back as it was."""

from __future__ import annotations

from typing import Any

import yaml

#: Words that some readers take for a truth value, and ours refuses unless they are quoted.
_AMBIGUOUS = frozenset({"y", "n", "yes", "no", "on", "off"})


class _Dumper(yaml.SafeDumper):
    """Without anchors: what occurs twice is written twice, for people."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Text of several lines stands as it is, where YAML can tell it so."""
    plain = "\n" in text and all(c.isprintable() or c == "\n" for c in text)
    block = plain and not text.startswith((" ", "\n")) and " \n" not in text
    quoted = "'" if text.lower() in _AMBIGUOUS else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else quoted)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """Return plain data (mappings, lists, core scalars) as a YAML document."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        # Folded lines are hard to read, and to compare.
        width=10_000,
    )
    return text

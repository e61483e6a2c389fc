"""`script`: a script of the playbook's own on hosts, sent over stdin and never left there.

A script that arrives by halves must not run by halves: the host compares its sha256 before the
interpreter sees the first byte, and a shell is given it as one group of commands.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from runbook.model.inventory import Argv, Word
from runbook.steps.running_argv import Errand, RunArgs, running_verb
from runbook.steps.shell import Variable, refuse_placeholders

#: A script is written by hand and is part of the plan, which every run keeps in its journal.
_LONGEST = 262_144

#: How an interpreter is told to read its script from stdin, before the script's own arguments.
_FROM_STDIN = {
    "sh": ("-s", "--"),
    "bash": ("-s", "--"),
    "dash": ("-s", "--"),
    "ksh": ("-s", "--"),
    "zsh": ("-s", "--"),
    "python": ("-",),
    "python3": ("-",),
    "perl": ("-",),
    "ruby": ("-",),
}
_SHELLS = frozenset(name for name, words in _FROM_STDIN.items() if "-s" in words)

#: $1 is the sha256 of what must arrive; the rest is the interpreter with its arguments. The x keeps
#: the line ends at the end, which $(…) drops. 96 is no exit code that a script would choose.
_RECEIVE = """\
script=$(cat; echo x)
script=${script%x}
if ! command -v sha256sum >/dev/null; then
  echo 'there is no sha256sum here: nothing was run' >&2
  exit 96
fi
if [ "$(printf %s "$script" | sha256sum | cut -c1-64)" != "$1" ]; then
  echo 'the script did not arrive whole: nothing was run' >&2
  exit 96
fi
shift
printf %s "$script" | "$@"
"""


class ScriptArgs(RunArgs):
    """A script on some hosts: a file beside the playbook, or its text."""

    file: str | None = Field(
        None, description="the script's file, relative to the playbook; its content is in the plan"
    )
    text: Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST)] | None = Field(
        None, description="the script itself; ${…} is refused in it"
    )
    args: tuple[Word, ...] = Field((), description='words that the script finds as "$1", "$2", …')
    env: dict[Variable, Word] = Field(
        default_factory=dict, description="variables that the script finds in its environment"
    )
    interpreter: Argv | None = Field(
        None,
        description="words that run a script from stdin, as in [bash, -s, --]; what its first line"
        " says (#!), when left out, else sh",
    )

    @model_validator(mode="before")
    @classmethod
    def _values_are_never_pasted(cls, given: Any) -> Any:
        # What came from a file is nobody's template: `${HOME}` is the script's own there.
        if not (isinstance(given, dict) and given.get("file")):
            refuse_placeholders(given, "text")
        return given

    @model_validator(mode="after")
    def _one_script(self) -> Self:
        if self.file is None and self.text is None:
            raise ValueError("a script has a file or a text")
        if self.text is not None:
            if "\x00" in self.text:
                raise ValueError("text: a NUL byte is part of no script")
            self.words()
        return self

    def words(self) -> tuple[str, ...]:
        """Return the interpreter's words.

        Raises:
            ValueError: when the first line names one that we cannot call.
        """
        first = (self.text or "").partition("\n")[0].strip()
        if self.interpreter is not None:
            return self.interpreter
        if not first.startswith("#!"):
            return ("sh", *_FROM_STDIN["sh"])
        named = tuple(shlex.split(first[2:]))
        program = next((w for w in named if PurePosixPath(w).name != "env"), "")
        how = _FROM_STDIN.get(PurePosixPath(program).name)
        if how is None:
            raise ValueError(
                f"{first!r}: how it reads a script from stdin is not known here; say it, as in"
                " interpreter: [php, --]"
            )
        return (*named, *how)


def _errand(args: ScriptArgs) -> Errand:
    if args.text is None:
        # It was read from no playbook: nothing may be run in its place.
        raise ValueError(f"the script {args.file!r} was not read")
    words = args.words()
    sent = _as_group(args.text) if _is_shell(words) else args.text
    digest = hashlib.sha256(sent.encode()).hexdigest()
    name = args.file or "script"
    own = hashlib.sha256(args.text.encode()).hexdigest()[:12]
    return Errand(
        argv=(*words, *args.args),
        env=args.env,
        stdin=sent,
        wrap=("sh", "-c", _RECEIVE, "sh", digest),
        shown_more=f" < {name} (sha256 {own})",
        by_hand_more=f" < {shlex.quote(name)}",
    )


def _is_shell(words: tuple[str, ...]) -> bool:
    return any(PurePosixPath(word).name in _SHELLS for word in words[:2])


def _as_group(text: str) -> str:
    """One group of commands is read to its end before any of them runs.

    And what they run cannot eat the rest of the script from stdin. All of it stands on the
    script's own lines, so that line numbers in complaints are right.
    """
    return f"{{ exec </dev/null; {text}\n}}\n"


SCRIPT = running_verb(
    "script",
    "run a script on hosts, sent over stdin and never left there",
    ScriptArgs,
    _errand,
    files={"file": "text"},
    literal=("text",),
)

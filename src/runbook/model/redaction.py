"""Takes secrets out of text before it is kept or shown: known values, and what looks like one.

It catches shapes, not meaning: a password that stands alone in a line, or in a language of its own,
is like any other word. Every pattern is linear in the text: what repeats is bounded, or begins only
where a word begins, so that a hostile output of 256 KiB takes no longer than another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.model.plan import Result

#: What stands for what was taken out.
OUT = "…"
#: A known secret that is shorter is left alone: it would tear words apart wherever it occurs.
SHORTEST_KNOWN = 4

#: Names that say that their value is nobody's business.
_KEYWORD = (
    r"(?:passw(?:or)?d|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?)"
)
#: Keys of mappings, columns and settings that bear such a name.
SECRET_KEY = re.compile(rf"{_KEYWORD}|conninfo|cancel_key", re.IGNORECASE)

# A value: quoted (an end that is missing is the end of the text), in dollars, or a word.
_QUOTED = r"\\*\"[^\"]*\"?|[eE]?\\*'[^']*'?"
_DOLLARS = r"\$\w{0,32}\$.*?\$\w{0,32}\$"
# As in a shell, pieces that touch are one value; what a piece has taken it never gives back.
_VALUE = rf"(?:{_QUOTED}|{_DOLLARS}|[^\s'\",;&|)<>\\]++)++"

#: `password=x`, `"api_key": "x"`, `AWS_SECRET_ACCESS_KEY=x`, `PASSWORD 'x'`. A word alone is no
#: secret: `password authentication failed` is evidence.
#: `NOPASSWD:` in a line of sudoers is followed by a command.
_NAMED = re.compile(
    rf"(?is)((?<!no){_KEYWORD}[A-Za-z0-9_-]{{0,32}}(?:\\*['\"])?\s{{0,8}}(?:=>|[=:])\s{{0,8}}"
    rf"|(?:{_KEYWORD})\s{{1,8}}(?=[eE]?['\"]|\$\w{{0,32}}\$))({_VALUE})"
)
#: `--password x`, `--db-token x`; `--no-password x` names none.
_OPTION = re.compile(
    rf"(?i)((?<![A-Za-z0-9-])--(?!no-)[A-Za-z0-9-]{{0,32}}?{_KEYWORD}[ \t]{{1,8}})"
    rf"({_QUOTED}|[^\s'\"]+)"
)
#: `user:x@host` in a URL; the last @ before the path ends the password.
_IN_URL = re.compile(r"(://[^\s/:@]*):[^\s/]*@")
_HEADER = re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s{0,8}[:=]\s{0,8}['\"]?)[^\r\n'\"]+")
_COOKIE = re.compile(r"(?i)(\b(?:set-)?cookie:\s{0,8})[^\r\n'\"]+")
_BEARER = re.compile(r"(?i)\b(bearer[ \t]{1,8})[A-Za-z0-9._~+/=-]{16,}")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
#: Tokens that are known by their looks: AWS, GitHub, GitLab, Slack, JSON web tokens, and what
#: PostgreSQL keeps in the place of passwords.
_LOOKS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|SCRAM-SHA-256\$[0-9]{1,9}:[A-Za-z0-9+/=$:]+|md5[0-9a-f]{32}(?![A-Za-z0-9]))"
)
#: Two are enough for what people and programs write; what is made to need more gets this many.
_ROUNDS = 8
#: Characters of a text whose answer is remembered.
_REMEMBERED = 200
_PRIVATE_KEY = f"(a private key){OUT}"
#: Text without any of these, in lower case, holds none of the shapes: most text is asked no more.
#: Plain words, because a pattern of as many takes ten times as long over 5,000 sessions.
_WORDS = (
    *("passw", "passphrase", "pwd", "secret", "token", "key", "credential", "://", "md5", "akia"),
    *(
        "asia",
        "authorization",
        "cookie",
        "bearer",
        "github_pat",
        "glpat",
        "xox",
        "eyj",
        "scram-sha",
    ),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
)

#: Takes the secrets out of one text.
Mask = Callable[[str], str]


def redacted(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` without what looks like a secret, and without the `known` ones.

    Doing it again changes nothing.
    """
    for secret in known:
        text = text.replace(secret, OUT)
    return _without_shapes(text) if len(text) > _REMEMBERED else _remembered(text)


def _without_shapes(text: str) -> str:
    """Mask until nothing more is found: what stands beside a hole may look like a secret then."""
    lower = text.lower()
    if not any(word in lower for word in _WORDS):
        return text
    for _ in range(_ROUNDS):
        before, text = text, _masked_once(text)
        if text == before:
            break
    return text


def _masked_once(text: str) -> str:
    text = _PEM.sub(_PRIVATE_KEY, text)
    for pattern in (_HEADER, _COOKIE, _BEARER, _NAMED, _OPTION):
        text = pattern.sub(rf"\g<1>{OUT}", text)
    return _LOOKS.sub(OUT, _IN_URL.sub(rf"\1:{OUT}@", text))


#: The same short texts come again and again: states, roles, names of hosts.
_remembered = lru_cache(maxsize=4096)(_without_shapes)


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return known secrets as they may be written, in JSON or a URL too; the longest first."""
    written = {
        form
        for secret in secrets
        for form in (secret, _in_a_url(secret), json.dumps(secret)[1:-1])
        if len(secret) >= SHORTEST_KNOWN
    }
    return tuple(sorted(written, key=lambda form: (-len(form), form)))


def _in_a_url(secret: str) -> str:
    """Return it percent-encoded, as RFC 3986 has it."""
    return "".join(
        sign
        if sign.isascii() and (sign.isalnum() or sign in "_.-~")
        else "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))
        for sign in secret
    )


def redacted_data(value: Any, mask: Mask, key: str = "") -> Any:
    """Return plain JSON values with every text masked; what a key calls a secret is taken out."""
    if isinstance(value, dict):
        return {name: redacted_data(item, mask, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_data(item, mask, key) for item in value]
    if not isinstance(value, str) or not value:
        return value
    return OUT if key and _names_a_secret(key) else mask(value)


@lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    return SECRET_KEY.search(key) is not None


def redacted_result(result: Result, mask: Mask) -> Result:
    """Return a result as it may be kept and shown.

    What it touches stays as it is: a confirmation binds to it, word for word. And a command that
    somebody is to type keeps all its words but those that look like a secret: it is made of what
    the playbook and the inventory say, and with a hole in it it would do something else.
    """
    summary, data = mask(result.summary), redacted_data(result.data, mask)
    told = [] if summary == result.summary else ["/summary"]
    return replace(
        result,
        summary=summary,
        hint=mask(result.hint),
        data=data,
        by_hand=tuple(redacted(line) for line in result.by_hand),
        masked=tuple(dict.fromkeys((*result.masked, *told, *_altered(result.data, data)))),
    )


def _altered(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Yield where the mask has changed plain JSON values, as JSON pointers."""
    if isinstance(before, dict):
        for key, item in before.items():
            yield from _altered(item, after[key], pointer(str(key), at=at))
    elif isinstance(before, list | tuple):
        for number, item in enumerate(before):
            yield from _altered(item, after[number], pointer(str(number), at=at))
    elif before != after:
        yield at


def pointer(*parts: str, at: str = "") -> str:
    """Return the JSON pointer (RFC 6901) to what lies at these parts, inside of `at`."""
    escaped = (part.replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join((at, *(f"/{part}" for part in escaped)))


def within(asked: str, masked: Iterable[str]) -> bool:
    """Whether anything was taken out of what the pointer `asked` points at."""
    return any(f"{each}/".startswith(f"{asked}/") for each in masked)

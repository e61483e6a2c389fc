"""Where a connection string leads: its host and port read, and changed with nothing else.

URIs (`postgresql://`, with a driver as in `postgresql+psycopg2://`, or `jdbc:`) and libpq's
`key=value` strings. Readers of such strings differ where one is odd; what two of them would
understand differently is refused, never guessed. No message repeats any part of the string but its
hosts and ports: the rest may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runbook.model.redaction import OUT, SECRET_KEY

#: Schemes under which frameworks know PostgreSQL: Django's PostGIS, Elixir's Ecto, PHP's.
_SCHEME = re.compile(
    r"(?P<scheme>(?:jdbc:)?(?:postgres(?:ql)?|postgis|ecto|pgsql|psql)(?:\+[a-z0-9_]+)?)://",
    re.IGNORECASE,
)
_ANY_SCHEME = re.compile(r"(?:jdbc:)?(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,40}):")
_KEY_VALUE = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*=")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:%_-]{0,252}")


class CannotLead(ValueError):
    """The string cannot be led elsewhere; the message says why, without its secrets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a connection string leads; a port of None is the driver's own default, 5432."""

    host: str
    port: int | None = None

    def same_as(self, other: Endpoint) -> bool:
        """Whether both lead to the same place, as far as their names tell."""
        mine = (self.host.strip("[]").casefold(), self.port or 5432)
        return mine == (other.host.strip("[]").casefold(), other.port or 5432)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slot:
    """Where a value stands in the string: from begin to end; None: it is not there."""

    text: str
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    endpoint: Endpoint
    host: _Slot
    #: None: it has no port, and `added` is put in at `add_at`.
    port: _Slot | None
    add_at: int
    added: str
    #: How a host is written in its place.
    in_uri: bool


def endpoint_of(url: str) -> Endpoint:
    """Return where a connection string leads.

    Raises:
        CannotLead: when that is not one host and one port.
    """
    return _read(url).endpoint


def lead_to(url: str, host: str | None = None, port: int | None = None) -> str:
    """Return the string with another host, port, or both; nothing else in it changes.

    Raises:
        CannotLead: when it does not lead to one host and one port, or cannot hold the new ones.
    """
    found = _read(url)
    edits: list[tuple[int, int, str]] = []
    if host is not None:
        bare = host.removeprefix("[").removesuffix("]")
        if not _HOST.fullmatch(bare):
            raise CannotLead(f"{host!r} is no host name and no address")
        edits.append((found.host.begin, found.host.end, _written(bare, found.in_uri)))
    if port is not None and found.port is not None:
        edits.append((found.port.begin, found.port.end, str(port)))
    elif port is not None:
        edits.append((found.add_at, found.add_at, found.added.format(port)))
    for begin, end, text in sorted(edits, reverse=True):
        url = url[:begin] + text + url[end:]
    _check_led(url, host or found.endpoint.host, port or found.endpoint.port)
    return url


def _check_led(url: str, host: str, port: int | None) -> None:
    wanted = Endpoint(host=host.removeprefix("[").removesuffix("]"), port=port)
    if endpoint_of(url) != wanted:
        raise CannotLead(f"it would not lead to {wanted}")


def _decoded(text: str) -> str:
    """Return a part of a URI without its percent-encoding (RFC 3986)."""

    def said(match: re.Match[str]) -> str:
        return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", errors="replace")

    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", said, text)


def _written(host: str, in_uri: bool) -> str:
    if ":" not in host or not in_uri:
        return host
    return f"[{host.replace('%', '%25')}]"


def _read(url: str) -> _Found:
    match = _SCHEME.match(url)
    if match is not None:
        return _read_uri(url, match.end())
    if _KEY_VALUE.match(url):
        return _read_pairs(url)
    other = _ANY_SCHEME.match(url)
    if other is not None and other["scheme"].lower() in {"postgres", "postgresql"}:
        raise CannotLead("the connection string names no host (//HOST is missing)")
    raise CannotLead("it is no connection string of PostgreSQL")


# ---- URIs ------------------------------------------------------------------------------------


def _read_uri(url: str, begin: int) -> _Found:
    _check_plain(url)
    end = next((i for i in range(begin, len(url)) if url[i] in "/?#"), len(url))
    _check_ats(url, begin, end)
    host_begin = url.rfind("@", begin, end) + 1 or begin
    host, port = _authority(url, host_begin, end)
    params = list(_params(url, end))
    return _effective(url, host, port, params)


def _check_plain(url: str) -> None:
    if any(char.isspace() or ord(char) < 0x20 for char in url):
        raise CannotLead("the connection string holds white space, which a URI cannot")


def _check_ats(url: str, begin: int, end: int) -> None:
    """Unescaped signs in a password: readers differ in which @ ends it."""
    path = url[end:].partition("?")[0]
    query = url[end:].partition("?")[2].partition("#")[0]
    loose = "@" in path or ("#" in url[end:] and "@" in url[end:].partition("#")[2])
    loose = loose or any(
        "@" in pair and "=" not in pair.partition("@")[0] for pair in query.split("&")
    )
    # Without a path libpq reads on to the @: `user:pa?s=word@host`.
    loose = loose or (url[end : end + 1] == "?" and "@" in query)
    if url.count("@", begin, end) > 1 or loose:
        raise CannotLead(
            "its user or password holds an unescaped @, /, ? or #, which drivers read differently:"
            " percent-encode it (%40, %2F, %3F, %23) first"
        )


def _authority(url: str, begin: int, end: int) -> tuple[_Slot, _Slot | None]:
    text = url[begin:end]
    if "," in text:
        raise CannotLead(f"it names several hosts ({text}): which of them is to be led elsewhere?")
    if text.startswith("["):
        close = text.find("]")
        if close < 0 or (rest := text[close + 1 :])[:1] not in {"", ":"}:
            raise CannotLead(f"the address in brackets is not closed: {text}")
        host_end = begin + close + 1
        host = _Slot(text=_decoded(text[1:close]), begin=begin, end=host_end)
    else:
        if text.count(":") > 1:
            raise CannotLead(f"an IPv6 address stands in brackets in a URI: {text}")
        name, colon, rest = text.partition(":")
        host_end, rest = begin + len(name), colon + rest
        host = _Slot(text=_decoded(name), begin=begin, end=host_end)
    if not rest:
        return host, None
    return host, _port_slot(rest[1:], host_end + 1, end)


def _port_slot(text: str, begin: int, end: int) -> _Slot:
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise CannotLead("what stands in the place of its port is no port")
    return _Slot(text=text, begin=begin, end=end)


def _params(url: str, begin: int) -> Iterator[tuple[str, _Slot]]:
    """Yield the query's parameters: name, and where the value stands."""
    mark = url.find("?", begin)
    if mark < 0:
        return
    stop = url.find("#", mark)
    stop = len(url) if stop < 0 else stop
    at = mark + 1
    for pair in url[at:stop].split("&"):
        name, equals, value = pair.partition("=")
        start = at + len(name) + len(equals)
        yield _decoded(name).lower(), _Slot(text=_decoded(value), begin=start, end=at + len(pair))
        at += len(pair) + 1


def _effective(
    url: str, host: _Slot, port: _Slot | None, params: list[tuple[str, _Slot]]
) -> _Found:
    """Return the one host and the one port that count."""
    _refuse_beside(name for name, _ in params)
    hosts = [slot for name, slot in params if name == "host"]
    ports = [slot for name, slot in params if name == "port"]
    if len(hosts) > 1 or any("," in slot.text for slot in (*hosts, *ports)):
        raise CannotLead("it names several hosts: which of them is to be led elsewhere?")
    if (host.text and hosts) or len(ports) > 1 or (port is not None and port.text and ports):
        raise CannotLead("it names its host or its port twice, and drivers differ in which counts")
    if hosts:
        return _in_query(url, port, hosts[0], ports)
    _check_host(host.text)
    # Where the port stands in the query, it is changed there.
    slot = ports[0] if ports else port
    return _Found(
        endpoint=Endpoint(host=host.text, port=_number(slot)),
        host=host,
        port=_port_slot(slot.text, slot.begin, slot.end) if slot is not None else None,
        add_at=host.end,
        added=":{}",
        in_uri=True,
    )


def _in_query(url: str, port: _Slot | None, host: _Slot, ports: list[_Slot]) -> _Found:
    """`?host=h&port=p`, or SQLAlchemy's `?host=h:p`."""
    name, colon, tail = host.text.rpartition(":")
    raw = url[host.begin : host.end]
    if colon and ":" not in name:
        if raw != host.text or ports or (port is not None and port.text):
            raise CannotLead("it names its port twice, or in a way that drivers read differently")
        cut = host.begin + len(name)
        ports, host = (
            [_Slot(text=tail, begin=cut + 1, end=host.end)],
            _Slot(text=name, begin=host.begin, end=cut),
        )
    _check_host(host.text)
    slot = ports[0] if ports else port if port is not None and port.text else None
    return _Found(
        endpoint=Endpoint(host=host.text, port=_number(slot)),
        host=host,
        port=slot,
        add_at=host.end,
        added="&port={}",
        in_uri=False,
    )


def _number(slot: _Slot | None) -> int | None:
    if slot is None or not slot.text:
        return None
    _port_slot(slot.text, 0, 0)
    return int(slot.text)


#: Keywords of libpq's that lead elsewhere whatever host says.
_BESIDE = {
    "hostaddr": "names an address (hostaddr) beside its host",
    "service": "takes its host from a service file (service)",
    "servicefile": "takes its host from a service file (servicefile)",
}


def _refuse_beside(names: Iterator[str]) -> None:
    beside = next((name for name in names if name in _BESIDE), None)
    if beside is not None:
        raise CannotLead(f"it {_BESIDE[beside]}: change that by hand")


def _check_host(host: str) -> None:
    if not host:
        raise CannotLead("it names no host: where it leads is settled elsewhere (PGHOST, a socket)")
    if host.startswith("["):
        raise CannotLead(
            f"an address stands in brackets where drivers differ in reading it: {host}"
        )
    if host.startswith(("/", "@")):
        raise CannotLead(
            f"it leads to a socket directory ({host}): over TCP the server asks for a password and"
            " encryption that this string may not have"
        )


# ---- key=value -------------------------------------------------------------------------------


def _read_pairs(text: str) -> _Found:
    pairs = list(_pairs(text))
    _refuse_beside(name for name, _ in pairs)
    hosts = [slot for name, slot in pairs if name == "host"]
    ports = [slot for name, slot in pairs if name == "port"]
    if len(hosts) > 1 or len(ports) > 1:
        raise CannotLead("it names its host or its port twice")
    if any("," in slot.text for slot in (*hosts, *ports)):
        raise CannotLead("it names several hosts: which of them is to be led elsewhere?")
    host = hosts[0] if hosts else _Slot(text="", begin=0, end=0)
    _check_host(host.text)
    port = ports[0] if ports else None
    return _Found(
        endpoint=Endpoint(host=host.text, port=_number(port)),
        host=host,
        port=port,
        add_at=host.end,
        added=" port={}",
        in_uri=False,
    )


def _pairs(text: str) -> Iterator[tuple[str, _Slot]]:
    """Yield keywords and where their values stand, quotes included, as libpq reads them."""
    key = re.compile(r"\s*(?P<key>[^\s=]+)\s*=\s*")
    quoted, plain = (
        re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
        re.compile(r"(?:[^\s\\]|\\.)*", re.DOTALL),
    )
    at = 0
    while text[at:].strip():
        name = key.match(text, at)
        if name is None:
            raise CannotLead("it is no connection string: a keyword without a value")
        value = quoted.match(text, name.end()) or plain.match(text, name.end())
        if value is None or (text[name.end() : name.end() + 1] == "'" and value.re is plain):
            raise CannotLead("it is no connection string: a quote in it is not closed")
        inner = value[1] if value.re is quoted else value[0]
        said = re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
        yield name["key"].lower(), _Slot(text=said, begin=name.end(), end=value.end())
        at = value.end()


# ---- for people ------------------------------------------------------------------------------


def redacted(url: str) -> str:
    """Return the string as people may see it: its password, and whatever looks like one, as `…`."""
    if not _KEY_VALUE.match(url):
        return _redacted_uri(url) if "://" in url else OUT
    try:
        pairs = list(_pairs(url))
    except CannotLead:
        return OUT
    for name, slot in reversed(pairs):
        if _secret(name):
            url = url[: slot.begin] + OUT + url[slot.end :]
    # A URI within it, or a password that is not quoted: nobody knows where its password ends.
    return OUT if "://" in url else url


def _redacted_uri(url: str) -> str:
    begin = url.index("://") + 3
    end = next((i for i in range(begin, len(url)) if url[i] in "/?#"), len(url))
    try:
        _check_plain(url)
        _check_ats(url, begin, end)
    except CannotLead:
        return url[:begin] + OUT  # nobody knows where its password ends
    for name, slot in reversed(list(_params(url, end))):
        if _secret(name):
            url = url[: slot.begin] + OUT + url[slot.end :]
    at = url.rfind("@", begin, end)
    colon = url.find(":", begin, max(at, begin))
    return url if colon < 0 else url[: colon + 1] + OUT + url[at:]


def _secret(name: str) -> bool:
    return SECRET_KEY.search(name) is not None

"""An application_name as the server keeps it, which is not always as the client sent it."""

from __future__ import annotations

#: The server keeps this many bytes of an application_name (NAMEDATALEN - 1).
NAME_BYTES = 63
#: The first server_version_num that escapes what it cannot show, instead of writing `?`.
ESCAPES_SINCE = 160000


def as_server_keeps(name: str, version_num: int) -> str:
    r"""Return an application_name as pg_stat_activity shows it.

    What is no printable ASCII becomes `?` up to PostgreSQL 15 and `\xNN` from 16 on, byte by byte;
    then it is cut to 63 bytes (measured on 12 to 18).
    """
    escapes = version_num >= ESCAPES_SINCE
    kept = []
    for byte in name.encode("utf-8"):
        plain = 32 <= byte <= 126
        kept.append(chr(byte) if plain else f"\\x{byte:02x}" if escapes else "?")
    return "".join(kept)[:NAME_BYTES]

"""A report on a run as one HTML page: no script, no request, light and dark, readable on a phone.

Everything in it that came from elsewhere is escaped, and the page forbids itself anything that is
not its own style, should an escape ever be missing.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from runbook.model.units import format_duration
from runbook.rendering.report_sections import (
    Bar,
    Block,
    Chart,
    Facts,
    Lines,
    Output,
    Table,
    Timeline,
    sections,
    title,
    verdict,
)
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.history import History

#: Stages that have a colour of their own; others take turns in the rest.
_STAGES = {
    "preflight": 0,
    "prepare": 0,
    "admit": 0,
    "admitting": 0,
    "draining": 1,
    "drained": 1,
    "restarting": 2,
    "stabilising": 3,
    "gating": 4,
    "db_gating": 5,
    "undraining": 1,
}
_COLOURS = 6
_GOOD = frozenset({"done", "ok", "rehearsed", "skipped"})
_WAITS = frozenset({"waiting", "goes on", "not_exercised", "not reached"})
#: Shares of the run's time that the axis names.
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--paper:#fff;--soft:#f3f5f7;
--line:#d5dae0;--good:#1a7f37;--bad:#c0202b;--wait:#8a5a00;--c0:#8c959f;--c1:#8250df;--c2:#bf5b04;--c3:#b58900;
--c4:#1f7a8c;--c5:#2f6fd0}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9aa4af;--paper:#0d1117;--soft:#161b22;
--line:#30363d;--good:#4ac26b;--bad:#ff7b72;--wait:#e3b341;--c0:#6e7681;--c1:#a371f7;--c2:#f0883e;
--c3:#d9b326;--c4:#39b3c6;--c5:#6ea8fe}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.2rem 1rem 3rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;border:2px solid;
font-weight:600;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1rem;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;
border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:600;white-space:nowrap}td{overflow-wrap:anywhere}
pre{background:var(--soft);padding:.7rem;border-radius:.4rem;overflow-x:auto;
font-size:.85rem;margin:.4rem 0}
summary{cursor:pointer;overflow-wrap:anywhere}
.row{display:grid;grid-template-columns:9rem 1fr;gap:.6rem;align-items:center;margin:.25rem 0}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-size:.9rem}
.track{position:relative;height:1.1rem;background:var(--soft);border-radius:.2rem}
.track i{position:absolute;top:0;bottom:0;min-width:3px;border-radius:.15rem}
.track i.fault{outline:2px solid var(--bad);outline-offset:-1px;
background-image:repeating-linear-gradient(45deg,transparent 0 4px,var(--bad) 4px 7px)}
.c0{background-color:var(--c0)}.c1{background-color:var(--c1)}.c2{background-color:var(--c2)}
.c3{background-color:var(--c3)}.c4{background-color:var(--c4)}.c5{background-color:var(--c5)}
.axis{display:flex;justify-content:space-between;color:var(--dim);font-size:.8rem}
.legend{color:var(--dim);font-size:.85rem;margin:.5rem 0 0}
.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:.15rem;margin:0 .3rem 0 .8rem;
vertical-align:-.08rem}
svg{display:block;width:100%;height:8rem;background:var(--soft);border-radius:.3rem;margin-bottom:.6rem}
svg .used{fill:none;stroke:var(--c5);stroke-width:2.5}svg .area{fill:var(--c5);opacity:.18}
svg .usable{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:6 5}
svg *{vector-effect:non-scaling-stroke}
footer{color:var(--dim);font-size:.85rem;margin-top:3rem}
@media(max-width:40rem){.row{grid-template-columns:5.5rem 1fr}body{padding:.8rem .7rem 2rem}
tr{display:block;border-bottom:1px solid var(--line);padding:.4rem 0}tr:first-child{display:none}
td{display:grid;grid-template-columns:6.5rem 1fr;gap:.6rem;border:0;padding:.1rem 0}
td::before{content:attr(data-of);color:var(--dim)}}
@media print{body{max-width:none}details>*{display:block}}
"""


def render(history: History) -> str:
    """Return the whole page."""
    heading = text(title(history))
    body = "".join(_sections(history))
    record = history.record
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{heading}: {text(history.status)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n<h1>{heading}</h1>\n"
        f'<p class="verdict {_tone(history.status)}">{text(verdict(history))}</p>\n{body}'
        f"<footer>Written by runbook from its journal: run {text(record.run_id)}, plan"
        f" {text(record.plan_hash)}. All times are UTC.</footer>\n</body>\n</html>\n"
    )


def text(raw: str) -> str:
    """Return text that a browser shows letter by letter, in an attribute as well."""
    return html.escape(safe(raw), quote=True)


def _sections(history: History) -> Iterator[str]:
    for section in sections(history):
        blocks = "".join(_block(block) for block in section.blocks)
        yield f"<section>\n<h2>{text(section.title)}</h2>\n{blocks}</section>\n"


def _block(block: Block) -> str:  # noqa: PLR0911 - a table of forms
    match block:
        case Facts(rows=rows):
            inner = "".join(f"<dt>{text(n)}</dt><dd>{text(v)}</dd>" for n, v in rows)
            return f"<dl>{inner}</dl>\n"
        case Table():
            return _table(block)
        case Lines(lines=lines, commands=True):
            return f"<pre>{chr(10).join(map(text, lines))}</pre>\n"
        case Lines(lines=lines):
            return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>\n"
        case Output(title=name, text=raw):
            shown = "\n".join(text(line) for line in raw.splitlines())
            return f"<details><summary>{text(name)}</summary><pre>{shown}</pre></details>\n"
        case Timeline():
            return _timeline(block)
        case Chart():
            return _chart(block)


def _table(table: Table) -> str:
    head = "".join(f"<th>{text(cell)}</th>" for cell in table.head)
    rows = "".join("<tr>" + "".join(map(_cell, table.head, row)) + "</tr>\n" for row in table.rows)
    more = f"<p>… and {table.left_out} more</p>" if table.left_out else ""
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}</table></div>{more}\n'


def _cell(head: str, cell: str) -> str:
    """Return one cell; on a phone its head stands before it."""
    shown = text(cell)
    if head in {"Outcome", "Answered"}:
        shown = f'<span class="{_tone(cell)}">{shown}</span>'
    return f'<td data-of="{text(head)}"><span>{shown}</span></td>'


def _tone(status: str) -> str:
    if status in _GOOD or status == "well":
        return "good"
    return "wait" if status in _WAITS else "bad"


def _timeline(timeline: Timeline) -> str:
    colours = stage_colours(timeline)
    rows = "".join(
        f'<div class="row"><span class="name" title="{text(name)}">{text(name)}</span>'
        f'<span class="track">{"".join(_bar(bar, colours) for bar in bars)}</span></div>\n'
        for name, bars in timeline.rows
    )
    ticks = "".join(f"<span>{format_duration(timeline.seconds * tick)}</span>" for tick in _TICKS)
    legend = "".join(f'<i class="c{n}"></i>{text(name)}' for name, n in colours.items())
    more = f"<p>… and {timeline.left_out} more</p>" if timeline.left_out else ""
    axis = f'<div class="row"><span></span><span class="axis">{ticks}</span></div>'
    return f'{rows}{axis}<p class="legend">{legend}; striped: not well</p>{more}\n'


def stage_colours(timeline: Timeline) -> dict[str, int]:
    """Return the number of each stage's colour, `c0` to `c5`."""
    names = dict.fromkeys(bar.name for _, bars in timeline.rows for bar in bars)
    return {name: _STAGES.get(name, n % _COLOURS) for n, name in enumerate(names)}


def _bar(bar: Bar, colours: dict[str, int]) -> str:
    width = max(0.0, bar.end - bar.start) * 100
    fault = " fault" if bar.bad else ""
    style = f"left:{bar.start * 100:.2f}%;width:{width:.2f}%"
    return f'<i class="c{colours[bar.name]}{fault}" style="{style}" title="{text(bar.said)}"></i>'


def _chart(chart: Chart) -> str:
    """Draw steps: between two counts nobody looked, so the last one stands until the next."""
    top = max(1, chart.usable, *(used for _, used in chart.points)) * 1.08
    steps: list[tuple[float, float]] = []
    for at, used in chart.points:
        x, y = at * 1000, 100 - used / top * 100
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    area = f"{steps[0][0]:.1f},100 {line} {steps[-1][0]:.1f},100"
    limit = 100 - chart.usable / top * 100
    words = f"slots in use over the run, of {chart.usable} usable (dashed)"
    return (
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{words}">'
        f'<polygon class="area" points="{area}"/><polyline class="used" points="{line}"/>'
        f'<line class="usable" x1="0" x2="1000" y1="{limit:.1f}" y2="{limit:.1f}"/></svg>\n'
    )

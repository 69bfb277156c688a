"""
A frame as a picture on the terminal, with `rich`.

What is said is at the top, what it rests on below, and what a small terminal has no room for is at the
end and cut first: a picture is never larger than the screen. Color is never the only thing that says
something: each has a sign beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.text import Text

from sillyproxy.top import text

Data = dict[str, Any]

STYLES: Final = {"blue": "bright_blue", "green": "green"}
OTHER_STYLES: Final = ("magenta", "cyan", "yellow", "white")

# Sign and style of a verdict; without one there is nothing to judge.
VERDICTS: Final = {
    "worse": ("✗", "bold red"),
    "unsure": ("?", "bold yellow"),
    "too_few": ("…", "bold"),
    "same": ("✓", "bold green"),
    "better": ("✓", "bold green"),
    "": (" ", "bold"),
}
STATES: Final = {
    "ready": ("✓", "green"),
    "draining": ("↓", "yellow"),
    "unready": ("✗", "bold red"),
    "silent": ("✗", "bold red"),
    "asked": ("…", "dim"),
    "gone": ("-", "dim"),
}
LEVELS: Final = {"info": (" ", ""), "warning": ("!", "yellow"), "error": ("✗", "red")}

BARS: Final = "▁▂▃▄▅▆▇█"
ZERO: Final = "·"  # it was told of, and there was nothing
LINES: Final = (("req/s", "requests_per_s"), ("errors", "error_rate"), ("p95", "p95_ms"))
WIDE: Final = 76  # from here on there are three lines a color; below, two
SHORTEST: Final = 6
KEYS_FROM: Final = 12  # lines; lower, there is better use for one
INDENT: Final = 2


def draw(frame: Data, title: str, width: int, height: int, keys: str = "") -> list[Text]:
    """
    Return the picture: at most `height` lines of at most `width` columns.

    `title` is what is looked at, `keys` what can be typed.
    """
    if height < KEYS_FROM:
        keys = ""
    top = [
        _heading(frame, title, width),
        *_verdicts(frame, width),
        Text(),
        *_colors(frame, width),
        *_lines(frame, width),
    ]
    sections = [_measures(frame), _endpoints(frame, width), _replicas(frame, width), _events(frame)]
    room = height - len(top) - bool(keys)
    body = _share_out([section for section in sections if section], room)
    lines = [*top, *body][: max(1, height - bool(keys))]
    if keys:
        lines += [Text()] * (height - 1 - len(lines))
        lines.append(Text(keys, "dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _share_out(sections: Sequence[list[Text]], room: int) -> list[Text]:
    """
    Return the sections, cut to so many lines: who is first, and all else line by line in turn.

    A title says how much of its section is missing. Blank lines between them are the first to go.
    """
    shown = [min(2, len(section)) for section in sections]
    while shown and sum(shown) > room:
        shown.pop()
    left = room - sum(shown)
    while left and any(count < len(section) for count, section in zip(shown, sections, strict=False)):
        for number, count in enumerate(shown):
            if left and count < len(sections[number]):
                shown[number] += 1
                left -= 1
    lines = []
    for section, count in zip(sections, shown, strict=False):
        title, *rest = section[:count]
        if count < len(section):
            title = title.copy().append(f"  {len(section) - count} more", "dim")
        lines += [Text(), title, *rest] if left >= len(shown) else [title, *rest]
    return lines


# From top to bottom.


def _heading(frame: Data, title: str, width: int) -> Text:
    right = f"{text.window(frame)}  {text.clock(frame['time'])}"
    left = Text.assemble(("sillyproxy top  " if width >= WIDE else "", ""), (text.heading(frame), "bold"))
    left.append(f"  {title}", "dim")
    left.truncate(max(0, width - len(right) - 2), overflow="ellipsis", pad=True)
    return left.append(f"  {right}", "dim")


def _verdicts(frame: Data, width: int) -> Iterable[Text]:
    for verdict, said in text.verdicts(frame):
        sign, style = VERDICTS.get(verdict, VERDICTS[""])
        for number, part in enumerate(_wrap(said, width - 2)):
            yield Text(f"{sign if number == 0 else ' '} {part}", style)


def _colors(frame: Data, width: int) -> list[Text]:
    if not frame["colors"]:
        return []
    bad = {
        (one["candidate"], measure["measure"])
        for one in frame["comparisons"]
        for measure in one["measures"]
        if measure["verdict"] == "worse"
    }
    head = ["", "asked", "seen", "req/s", "errors", "p50 ms", "p95 ms", "p99 ms", "under way"]
    rows = [[Text(title, "dim") for title in head]]
    for color in frame["colors"]:
        name = color["name"]
        is_new = ("error_rate" in {what for who, what in bad if who == name}) and bool(color["error_rate"])
        rows.append(
            [
                Text(name, style_of(name, frame) + ("" if color["present"] else " dim")),
                Text(text.percent(color["share_asked"], 0) if color["present"] else "gone"),
                Text(text.percent(color["share_seen"])),
                Text(text.rate(color["requests_per_s"])),
                _judged(text.failed(color["error_rate"]), is_new),
                *(
                    _judged(text.ms(color[f"{what}_ms"]), (name, what) in bad)
                    for what in ("p50", "p95", "p99")
                ),
                Text(f"{color['inflight']:,}"),
            ]
        )
    return columns(rows, width, drop=(5, 8, 1))


def _judged(figure: str, is_worse: bool) -> Text:
    return Text(f"{figure}!", "bold red") if is_worse else Text(figure)


def _lines(frame: Data, width: int) -> Iterable[Text]:
    """Yield what each color did in the last minutes, to one scale for all colors but for the rate."""
    kinds = LINES if width >= WIDE else LINES[1:]
    names = [color["name"] for color in frame["colors"] if color["name"] in frame["lines"]]
    if not names:
        return
    label = max(map(len, names)) + 2
    length = (width - label - sum(len(title) + 3 for title, _ in kinds)) // len(kinds)
    if length < SHORTEST:
        return
    length = min(length, max(len(line) for name in names for line in frame["lines"][name].values()))
    highest = {
        key: max((v for name in names for v in frame["lines"][name][key][-length:] if v), default=0.0)
        for _, key in kinds
    }
    span, step = text.span(length * frame["step_s"]), text.span(frame["step_s"])
    yield Text(f"{'':{label}}the last {span}, {step} a column", "dim")
    for name in names:
        row = Text().append(f"{name:{label}}", style_of(name, frame))
        for title, key in kinds:
            values = frame["lines"][name][key][-length:]
            scale = max((v for v in values if v), default=0.0) if key == "requests_per_s" else highest[key]
            style = style_of(name, frame)
            if key == "error_rate":
                style = "red" if any(values) else "dim"
            row.append(f"{title} ", "dim").append(sparkline(values, scale), style).append("  ")
        row.rstrip()
        yield row


def sparkline(values: Sequence[float | None], highest: float) -> str:
    """
    Return values as bars; nothing for what is not known, a dot for nothing.

    >>> sparkline([None, 0.0, 0.1, 5.0, 10.0], 10.0)
    ' ·▁▄█'
    """
    line = ""
    for value in values:
        if value is None:
            line += " "
        elif not value or not highest:
            line += ZERO
        else:
            line += BARS[min(len(BARS) - 1, int(value / highest * (len(BARS) - 0.01) - 0.5) if value else 0)]
    return line


def _measures(frame: Data) -> list[Text]:
    lines = []
    for one in frame["comparisons"]:
        if one["verdict"] == "too_few":
            continue
        order = list(VERDICTS)
        for measure in sorted(one["measures"], key=lambda measure: order.index(measure["verdict"])):
            sign, style = VERDICTS.get(measure["verdict"], VERDICTS[""])
            style = style.replace("bold", "").strip()
            lines.append(Text.assemble(" " * INDENT, (sign, style), f" {measure['text']}"))
    return [Text(f"compared, over {text.span(frame['window_s'])}", "bold"), *lines] if lines else []


def _endpoints(frame: Data, width: int) -> list[Text]:
    answering = sum(one["state"] in text.ANSWERING for one in frame["replicas"])
    counts, rows = [], []
    for color in frame["colors"]:
        up = sum(endpoint["up"] for endpoint in color["endpoints"])
        total = len(color["endpoints"])
        if color["present"]:
            counts.append(f"{color['name']} {up} of {total} up" if up < total else f"{color['name']} {up} up")
        for endpoint in color["endpoints"]:
            if not endpoint["up"]:
                which, why = text.endpoint(color["name"], endpoint, frame["time"], answering)
                rows.append([Text("✗", "bold red"), Text(which, style_of(color["name"], frame)), Text(why)])
    title = Text.assemble(("endpoints  ", "bold"), ", ".join(counts))
    return [title, *_indented(rows, width)] if counts else []


def _replicas(frame: Data, width: int) -> list[Text]:
    """Return the replicas, those first that do not answer, then those that differ."""
    differing = text.differing(frame)
    silent, up = [], []
    for one in sorted(frame["replicas"], key=lambda one: not one.get("differs")):
        sign, style = ("≠", "bold yellow") if one.get("differs") else STATES[one["state"]]
        address = one["address"] if one["address"] != one["name"] else ""
        row = [Text(sign, style), Text(one["name"]), Text(address, "dim")]
        said = Text(text.state(one), "" if one["state"] == "ready" else style)
        if one["state"] not in text.ANSWERING or one.get("same_as"):
            silent.append([*row, said])
        else:
            per_second = Text(f"{text.rate(one['requests_per_s'])} req/s")
            shares = Text(text.shares(one) if differing else "", "dim")
            up.append([*row, per_second, said, Text(text.build(one)), shares])
    title = Text.assemble(("replicas", "bold"), (f"  ≠ {differing}" if differing else "", "yellow"))
    problems = [Text(f"  ✗ {name}: {why}", "red") for name, why in frame["problems"].items()]
    lines = [
        *problems,
        *_indented(silent, width, drop=(2,)),
        *_indented(up, width, right=(3,), drop=(2, 3)),
    ]
    return [title, *lines] if lines else []


def _events(frame: Data) -> list[Text]:
    several = len(frame["replicas"]) > 1
    lines = []
    for event, who in text.grouped(frame["events"]):
        sign, style = LEVELS.get(event["level"], LEVELS["info"])
        line = Text.assemble("  ", (sign, style), f" {text.clock(event['time'])} ")
        line.append(f"{who} " if several else "", "dim").append(text.event(event), style)
        lines.append(line)
    return [Text("events", "bold"), *lines] if lines else []


# How it is laid out.


def style_of(color: str, frame: Data) -> str:
    """Return how a color is drawn: blue and green as what they are."""
    others = [one["name"] for one in frame["colors"] if one["name"] not in STYLES]
    if color in STYLES:
        return STYLES[color]
    return OTHER_STYLES[others.index(color) % len(OTHER_STYLES)] if color in others else ""


def columns(
    rows: Sequence[Sequence[Text]], width: int, *, left: Sequence[int] = (0,), drop: Sequence[int] = ()
) -> list[Text]:
    """
    Return rows with their cells one below the other, those of `left` from the left and others from the right.

    If they do not fit, the space between them shrinks first, then the columns of `drop` go, in that order.
    """
    shown = (
        [number for number in range(len(rows[0])) if any(row[number].cell_len for row in rows)]
        if rows
        else []
    )
    wide = {number: max(row[number].cell_len for row in rows) for number in shown}
    gap = 2
    for gone in (None, *drop):
        if gone in shown:
            shown.remove(gone)
        for gap in (2, 1):
            if sum(wide[number] for number in shown) + gap * (len(shown) - 1) <= width:
                break
        else:
            continue
        break
    lines = []
    for row in rows:
        line = Text()
        for number in shown:
            cell, space = row[number], Text(" " * (wide[number] - row[number].cell_len))
            line.append_text(cell + space if number in left else space + cell).append(" " * gap)
        line.rstrip()
        lines.append(line)
    return lines


def _indented(
    rows: Sequence[Sequence[Text]], width: int, *, right: Sequence[int] = (), drop: Sequence[int] = ()
) -> list[Text]:
    left = [number for number in range(len(rows[0]) if rows else 0) if number not in right]
    return [
        Text(" " * INDENT).append_text(line) for line in columns(rows, width - INDENT, left=left, drop=drop)
    ]


def _wrap(said: str, width: int) -> list[str]:
    """Return a sentence in lines of at most this width, broken between words."""
    lines = [""]
    for word in said.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines

"""The story as a view on a terminal, with `rich`: what is asked for, and the shares as they come in."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from types import TracebackType
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sillyproxy.demo.load import Tally
from sillyproxy.demo.plain import HONESTLY, NEXT, NEXT_WHERE, RATE, View, distinct, keeping_lines, total_line
from sillyproxy.demo.story import CHANGING, COUNTING, DONE, WAITING, Step, Story

STYLES: Final = {"blue": "bright_blue", "green": "green"}
FULL, EMPTY, MARK = "━", "─", "┃"
WIDEST: Final = 120
NARROW: Final = 62  # a smaller terminal goes without what can be done without
LOW: Final = 22
RATE_WINDOW_S: Final = 2.0
CHANGE_WINDOW_S: Final = 1.0  # old and new answer side by side: what counts is how that moves


class Live(View):
    """A picture redrawn ten times a second; at the end a table stays."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self._console = Console(highlight=False)
        self._screen = Screen(console=self._console, auto_refresh=False, transient=True)
        self._seen: deque[tuple[float, int]] = deque()
        self._changing: deque[tuple[float, Counter[str]]] = deque()

    @property
    def is_possible(self) -> bool:
        """Whether this terminal can be drawn on."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> None:
        """Begin to draw."""
        self._screen.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back; if the story broke off, what was seen of it stays."""
        self._screen.__exit__(kind, error, trace)
        if kind is not None and self.story.requests:
            self._print(self._table())

    def tick(self) -> None:
        """Draw."""
        width = self._width()
        parts = [self._header(width), self._list(width), self._panel(self.story.step, width), self._footer()]
        if self._console.height < LOW:
            del parts[:2]
        self._screen.update(Group(*parts), refresh=True)

    def summary(self) -> None:
        """Leave a table of all steps, and what to type next."""
        self._print(self._table())
        self._print(Text(total_line(self.story), "bold red" if self.story.failed else "bold green"))
        self._print(Text("\n".join(HONESTLY), "dim"))
        self._print(Text(f"\n{NEXT_WHERE}", "bold"))
        for command in NEXT:
            # Not wrapped: it is there to be copied.
            self._console.print(Text(f"  {command}"), soft_wrap=True)

    def keeping(self) -> None:
        """Tell where it goes on serving."""
        title, *lines = keeping_lines(self.story)
        self._print(Text(f"\n{title}", "bold"))
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _width(self) -> int:
        return min(self._console.width, WIDEST)

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, width=self._width())

    # The picture, from top to bottom.

    def _header(self, width: int) -> RenderableType:
        line = _row(width)
        line.add_row(
            Text("sillyproxy demo", "bold"),
            Text(f"{RATE} all the while" if width >= 60 else RATE, "dim"),
        )
        return line

    def _list(self, width: int) -> RenderableType:
        is_wide = width >= NARROW
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(no_wrap=True, min_width=15)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right", min_width=14 if is_wide else 5)
        table.add_column(no_wrap=True, justify="right")
        for step in self.story.steps:
            is_open = step.phase in (CHANGING, COUNTING)
            style = "bold" if is_open else "dim" if step.phase == WAITING else ""
            row = [Text(_sign(step), _sign_style(step)), Text(f"{step.number} {step.title}", style)]
            if step.phase != WAITING:
                requests = step.change.requests + step.tally.requests
                bar = _stack(step.tally, min(40, width - 46) if is_wide else max(0, min(8, width - 36)))
                row += [bar, Text(f"{requests:,}{' requests' if is_wide else ''}"), _failed(step.failed)]
            table.add_row(*row)
        return table

    def _panel(self, step: Step, width: int) -> RenderableType:
        counted = step.tally if step.phase != CHANGING else step.change
        is_roomy = width >= NARROW and self._console.height >= LOW
        parts: list[RenderableType] = [Text(step.says, "bold")]
        parts += [Text(f"$ {step.swarm}", "dim")] if is_roomy else []
        parts += _environment(step.environment)
        parts += [Text()] if is_roomy else []
        parts += [self._shares(step, width - 4), _replicas(counted)]
        parts += [_answers(step, counted)] if is_roomy else []
        doing = f"{step.doing} …" if step.phase != DONE else "done"
        return Panel(
            Group(*parts),
            box=box.ROUNDED,
            title=Text.assemble(f"step {step.number}/{len(self.story.steps)} ", (step.title, "bold")),
            title_align="left",
            subtitle=Text(doing, "yellow" if step.phase == CHANGING else ""),
            subtitle_align="right",
            border_style="dim",
            width=width,
        )

    def _shares(self, step: Step, width: int) -> RenderableType:
        colors = self._recent(step.change) if step.phase == CHANGING else step.tally.colors
        table = Table.grid(padding=(0, 1))
        for justify in ("left", "left", "right", "left"):
            table.add_column(no_wrap=True, justify=justify)
        for color in ("blue", "green"):
            asked = step.asked.get(color, 0.0)
            share = colors[color] / max(1, colors.total())
            table.add_row(
                Text(f"{color:5}", STYLES[color]),
                _bar(share, asked, STYLES[color], max(8, min(60, width - 32))),
                Text(f"{share * 100:5.1f} %", "bold" if colors[color] else "dim"),
                Text(f"asked {asked * 100:3.0f} %", "dim"),
            )
        return table

    def _recent(self, change: Tally) -> Counter[str]:
        """Return what was answered during the last second of a change."""
        now, history = time.monotonic(), self._changing
        if history and history[-1][1].total() > change.colors.total():
            history.clear()  # of another change
        history.append((now, change.colors.copy()))
        while now - history[0][0] > CHANGE_WINDOW_S:
            history.popleft()
        return change.colors - history[0][1]

    def _footer(self) -> RenderableType:
        now, requests = time.monotonic(), self.story.requests
        seen = self._seen
        seen.append((now, requests))
        while now - seen[0][0] > RATE_WINDOW_S:
            seen.popleft()
        per_second = (requests - seen[0][1]) / max(0.1, now - seen[0][0])
        return Text.assemble(
            (f"{requests:,} requests", "bold"),
            "   ",
            _failed(self.story.failed),
            "   ",
            f"{per_second:,.0f}/s   {now - self.story.started:.0f} s",
        )

    # What stays.

    def _table(self) -> RenderableType:
        is_wide, is_narrow = self._width() >= 76, self._width() < NARROW
        table = Table(box=box.SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0))
        story = self.story
        table.add_column("step", footer="in all", no_wrap=True)
        if is_wide:
            table.add_column("share", no_wrap=True)
        table.add_column("blue", justify="right", style=STYLES["blue"], no_wrap=True)
        table.add_column("green", justify="right", style=STYLES["green"], no_wrap=True)
        if is_wide:
            table.add_column("replicas", justify="right", no_wrap=True)
        if not is_narrow:
            table.add_column("requests", footer=f"{story.requests:,}", justify="right", no_wrap=True)
        table.add_column("failed", footer=_failed(story.failed, ""), justify="right", no_wrap=True)
        for step in story.steps:
            if step.phase != DONE:
                continue
            tally = step.tally
            shares = [f"{tally.share(color) * 100:.1f} %" if tally.colors[color] else "" for color in STYLES]
            cells: list[RenderableType] = [f"{step.number} {step.title}"]
            cells += [_stack(tally, 16 if self._width() >= 90 else 10)] if is_wide else []
            cells += shares
            cells += [f"{len(tally.replicas)}"] if is_wide else []
            cells += [] if is_narrow else [f"{step.change.requests + tally.requests:,}"]
            cells.append(_failed(step.failed, ""))
            table.add_row(*cells)
        return table


def _row(width: int) -> Table:
    """Return a line with something at either end."""
    table = Table.grid(expand=True)
    table.width = width
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    return table


def _sign(step: Step) -> str:
    if step.phase == DONE:
        return "✗" if step.problems() else "✓"
    return " " if step.phase == WAITING else "▸"


def _sign_style(step: Step) -> str:
    if step.phase == DONE:
        return "bold red" if step.problems() else "bold green"
    return "yellow"


def _failed(count: int, what: str = " failed") -> Text:
    return Text(f"{count:,}{what}", "bold red" if count else "green")


def _bar(share: float, asked: float, style: str, width: int) -> Text:
    """Return a bar of this share, with a mark where it was asked to end."""
    full = round(share * width)
    mark = min(width - 1, max(0, round(asked * width) - 1)) if asked else -1
    bar = Text()
    for column in range(width):
        if column == mark:
            bar.append(MARK, "bold")
        else:
            bar.append(*((FULL, style) if column < full else (EMPTY, "dim")))
    return bar


def _stack(tally: Tally, width: int) -> Text:
    """Return one bar that the colors divide among them."""
    bar = Text()
    left = width if tally.colors else 0
    blue = min(left, round(tally.share("blue") * width))
    bar.append(FULL * blue, STYLES["blue"])
    bar.append(FULL * (left - blue), STYLES["green"])
    bar.append(EMPTY * (width - left), "dim")
    return bar


def _environment(environment: dict[str, str]) -> list[RenderableType]:
    """Return the URLs a line each, and the weights on one."""
    urls: list[Text] = []
    weights: list[Text] = []
    for name, value in environment.items():
        # Of several URLs of one host only the first is given in full.
        first, *others = value.split(",")
        short = ",".join([first, *(re.sub(r"http://[^:]+", "…", other) for other in others)])
        setting = Text.assemble((name, STYLES[name.partition("_")[0].lower()]), f"={short}")
        (weights if name.endswith("_WEIGHT") else urls).append(setting)
    return [*urls, *([Text("  ").join(weights)] if weights else [])]


def _replicas(tally: Tally) -> Text:
    line = Text.assemble(("from ", "dim"))
    for (color, host), count in sorted(tally.replicas.items(), key=lambda item: item[0][1]):
        line.append(f"{host} ", STYLES.get(color, ""))
        line.append(f"{count:,}  ")
    return line


def _answers(step: Step, tally: Tally) -> Text:
    line = Text.assemble(("answers ", "dim"))
    for page in step.direct:
        line.append(page).append(" (asked directly)  ", "dim")
    for page in distinct(tally.samples, 4):
        line.append(f"{page}  ", STYLES["green" if "green" in page else "blue"])
    return line

"""
`sillyproxy demo`: a release told with real processes, under load that counts every failure.

    processes   real `myapp` backends and real `sillyproxy serve`, started, watched, stopped
    load        clients that never stop asking, and what they were answered
    story       the five steps, and whether each showed what it should
    plain, live how it is told: lines, or a view on a terminal if `rich` is installed

There is no `docker service update` here, so a new configuration is what it is on a Swarm:
a new proxy with the new environment is started, and the old one gets SIGTERM when the new
one is ready. Clients connect to the new one's address next, as a Swarm's DNS would tell
them; the old one says `Connection: close` while it drains, and nothing else moves them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

from sillyproxy.demo.plain import Plain, View
from sillyproxy.demo.processes import DemoFailed, Processes
from sillyproxy.demo.story import Story


def main(keep: bool) -> int:
    """
    Tell the story; with `keep`, go on serving afterwards.

    Return the exit status: 0 if every step showed what it should, 1 if not, 128 and the
    signal's number if we were told to stop before the end.
    """
    return asyncio.run(_Demo(keep).run())


class _Demo:
    """One telling, from the first process started to the last one gone."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._signal = 0
        self._kept = False
        self._processes = Processes()
        self._story = Story(self._processes)

    async def run(self) -> int:
        task = asyncio.create_task(self._tell())

        def stop(by: int) -> None:
            # Once only: a second cancellation would end the cleaning up.
            if self._signal or self._processes.trouble:
                self._processes.kill()
            else:
                self._signal = by
                task.cancel()

        def one_died() -> None:
            if not self._signal:
                task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        self._processes.when_one_dies(one_died)
        try:
            await task
            problems = self._story.problems()
        except asyncio.CancelledError:
            if self._signal:
                return 0 if self._kept else 128 + self._signal
            problems = [self._processes.trouble]
        except DemoFailed as error:
            problems = [str(error)]
        for problem in problems:
            print(f"sillyproxy demo: {problem}", file=sys.stderr)
        return 1 if problems else 0

    async def _tell(self) -> None:
        view = _choose_view(self._story)
        try:
            with view:
                ticking = asyncio.create_task(_tick(view))
                try:
                    await self._story.play(view.step_done)
                finally:
                    ticking.cancel()
            view.summary()
            if self._keep and not self._story.problems():
                self._kept = True
                view.keeping()
                await asyncio.Event().wait()
        finally:
            try:
                await self._story.load.stop()
            finally:
                await self._processes.stop()


def _choose_view(story: Story) -> View:
    # A terminal that cannot draw a block gets the lines, as a pipe does.
    if sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf"):
        with suppress(ImportError):
            from sillyproxy.demo.live import Live

            live = Live(story)
            if live.is_possible:
                return live
    return Plain(story)


async def _tick(view: View) -> None:
    while True:
        view.tick()
        await asyncio.sleep(0.1)

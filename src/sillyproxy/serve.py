"""
Serve: from the command line and the environment to processes that run.

Not part of `cli`, because what is imported here stays in the memory of every worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from sillyproxy.config import ConfigError
from sillyproxy.setup import ControllerSetup, WorkerSetup
from sillyproxy.supervisor.reload import log_warnings
from sillyproxy.supervisor.source import Source
from sillyproxy.supervisor.supervisor import Supervisor
from sillyproxy.tools import logs
from sillyproxy.tools.listen import CannotListen, inherit


def serve(
    colors: Sequence[str] = (),
    listen: str | None = None,
    run_worker: Callable[[WorkerSetup], int] | None = None,
) -> int:
    """
    Serve until told to stop. Return the exit status.

    2 if the configuration is wrong, 1 if it is right and cannot be served. `run_worker`
    is for tests of what is around the workers.
    """
    if run_worker is None:
        from sillyproxy import worker

        run_worker = worker.run

    source = Source(os.environ, colors, listen)
    try:
        config, warnings = source.load()
    except ConfigError as error:
        from sillyproxy.config.report import problems_text

        print(problems_text(error.problems), file=sys.stderr)
        return 2
    logs.setup(log_format=config.log_format, level=config.log_level)
    log_warnings(warnings)
    try:
        logs.check_writable(config.access_log.target)
        inherited = inherit(os.environ)
        return Supervisor(config, source, inherited, run_worker, _run_controller).run()
    except (CannotListen, logs.CannotLog) as error:
        return fail(str(error))
    except OSError as error:  # no memory for the counts, no descriptors
        return fail(f"cannot start: {error}")


def fail(reason: str) -> int:
    """Say in one line why there is nothing to serve. Return the exit status."""
    with suppress(OSError):
        print(f"sillyproxy: {reason}", file=sys.stderr)
    return 1


def _run_controller(setup: ControllerSetup) -> int:
    # Its libraries are big; imported here, they are in the controller's memory alone.
    from sillyproxy import controller

    return controller.run(setup)

"""
Serve: from the command line and the environment to processes that run.

Not part of `cli`, because what is imported here stays in the memory of every worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from sillyproxy.config.parse import ConfigError, load
from sillyproxy.config.schema import AccessLog
from sillyproxy.setup import ControllerSetup, WorkerSetup
from sillyproxy.supervisor import Supervisor
from sillyproxy.tools import logs
from sillyproxy.tools.cpus import available_cpus
from sillyproxy.tools.listen import CannotListen


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

    try:
        config, warnings = load(os.environ, colors=colors, listen=listen, cpus=available_cpus())
    except ConfigError as error:
        from sillyproxy.config.report import problems_text

        print(problems_text(error.problems), file=sys.stderr)
        return 2
    logs.setup(log_format=config.log_format, level=config.log_level)
    for warning in warnings:
        logs.warning("configuration", setting=warning.setting, reason=warning.reason, source=warning.source)
    try:
        _check_access_log(config.access_log)
        return Supervisor(config, run_worker, _run_controller).run()
    except (CannotListen, CannotLog) as error:
        return fail(str(error))
    except OSError as error:  # no memory for the counts, no descriptors
        return fail(f"cannot start: {error}")


def fail(reason: str) -> int:
    """Say in one line why there is nothing to serve. Return the exit status."""
    with suppress(OSError):
        print(f"sillyproxy: {reason}", file=sys.stderr)
    return 1


class CannotLog(Exception):
    """The access log cannot be written. The message is for the operator, whole."""


def _check_access_log(access_log: AccessLog) -> None:
    """Find out before the workers do, who could only die of it."""
    if access_log.target in ("stdout", "stderr", "off"):
        return
    try:
        with open(access_log.target, "ab"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotLog(f"cannot write the access log {access_log.target}: {reason}") from None


def _run_controller(setup: ControllerSetup) -> int:
    # Its libraries are big; imported here, they are in the controller's memory alone.
    from sillyproxy import controller

    return controller.run(setup)

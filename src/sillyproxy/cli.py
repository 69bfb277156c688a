"""
What an operator types: the commands and their help.

`serve` and `healthcheck` in their plain form never come here (`__main__` says why).
"""

from __future__ import annotations

import os
import sys

import click

from sillyproxy import __version__, sources
from sillyproxy.config import ConfigError, report
from sillyproxy.tools.cpus import available_cpus


class _Commands(click.Group):
    """`serve` is meant when no command is named; the settings are part of its help."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args:
            args = ["serve"]
        return super().parse_args(context, args)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        _write_settings(formatter)


class _Serve(click.Command):
    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        _write_settings(formatter)


def _write_settings(formatter: click.HelpFormatter) -> None:
    with formatter.section("Environment"):
        formatter.write(report.help_text() + "\n")


_colors = click.argument("colors", nargs=-1, metavar="[COLOR ...]")
_listen = click.option("--listen", "--addr", metavar="ADDR", help="Serve here; overrides SILLYPROXY_LISTEN.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sillyproxy")
def sillyproxy() -> None:
    """
    Blue-green and canary edge proxy, configured by environment variables.

    Without a command it serves.
    """


@sillyproxy.command(cls=_Serve)
@_colors
@_listen
def serve(colors: tuple[str, ...], listen: str | None) -> int:
    """
    Serve the colors of the environment.

    COLORs are looked for besides those of SILLYPROXY_COLORS.
    """
    from sillyproxy.serve import serve

    return serve(colors, listen)


@sillyproxy.command()
@_colors
@_listen
def check(colors: tuple[str, ...], listen: str | None) -> int:
    """Show the configuration in force, or all that is wrong with it."""
    try:
        config, warnings = sources.load(os.environ, colors=colors, listen=listen, cpus=available_cpus())
    except ConfigError as error:
        click.echo(report.problems_text(error.problems, "it would not start"), err=True)
        return 2
    if warnings:
        click.echo(report.warnings_text(warnings), err=True)
    click.echo(report.config_text(config))
    return 0


@sillyproxy.command()
@click.option("--keep", is_flag=True, help="Go on serving when the story is told.")
def demo(keep: bool) -> int:
    """Play a release on this machine: v1, canary at 20 %, all green, rollback."""
    from sillyproxy import demo as story

    return story.main(keep)


@sillyproxy.command()
@click.argument("addresses", nargs=-1, metavar="[ADDRESS ...]")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="From one picture to the next.",
)
@click.option(
    "--window",
    type=click.Choice(("60", "300", "900")),
    default="60",
    show_default=True,
    help="The seconds that percentiles and comparisons are of.",
)
@click.option("--token", metavar="TOKEN", help="What those ask for; default: SILLYPROXY_ADMIN_TOKEN.")
@click.option("--once", is_flag=True, help="Print one picture and exit: 0 if a replica answered, else 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one picture as JSON and exit.")
def top(
    addresses: tuple[str, ...], interval: float, window: str, token: str | None, once: bool, as_json: bool
) -> int:
    """
    Show live whether green is as good as blue, here or on all replicas together.

    ADDRESSes are admin listeners, host:port or http://host:port. A host name is all its addresses:
    tasks.proxy:9080 is every replica of the service `proxy`. Without one it is the proxy of this machine.
    """
    from sillyproxy import top as watch
    from sillyproxy.top.client import read_target

    admin, secret = sources.find_admin(os.environ)
    if not addresses and admin == "off":
        raise click.ClickException("the admin listener is off (SILLYPROXY_ADMIN=off); name an ADDRESS")
    try:
        targets = [read_target(address) for address in addresses or (admin,)]
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    return watch.main(
        list(dict.fromkeys(targets)),
        token=secret if token is None else token,
        interval_s=interval,
        window_s=int(window),
        once=once,
        as_json=as_json,
    )


@sillyproxy.command()
def healthcheck() -> int:
    """Ask the admin listener of this machine whether the proxy is ready: exit 0 or 1."""
    from sillyproxy.tools import healthcheck

    return healthcheck.main()


def main() -> int:
    """Do what the command line says. Return the exit status: 2 is for the configuration, 1 for all else."""
    try:
        status = sillyproxy.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # `sillyproxy check | head`
        sys.stderr.close()
        return 1
    return status if isinstance(status, int) else 0

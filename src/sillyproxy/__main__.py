"""
What an operator types, before any library is loaded.

`serve` in its everyday form and `healthcheck` are read here, with what Python has: the
memory of a library loaded now would stay in every worker, and a container asks for its
health every second or so. Everything else, mistakes included, is `cli`'s.
"""

from __future__ import annotations

import sys


def read_serve(arguments: list[str]) -> tuple[tuple[str, ...], str | None] | None:
    """
    Return what a plain call of `serve` says (more colors, where to listen); None for whatever else.

    >>> read_serve([])
    ((), None)
    >>> read_serve(["serve", "red", "--listen", ":80"])
    (('red',), ':80')
    >>> read_serve(["serve", "--help"]), read_serve(["check"]), read_serve(["serve", "--listen"])
    (None, None, None)
    """
    if not arguments:
        return (), None
    if arguments[0] != "serve":
        return None
    colors: list[str] = []
    listen: str | None = None
    rest = iter(arguments[1:])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in ("--listen", "--addr"):
            listen = value if equals else next(rest, None)
            if listen is None:
                return None
        elif argument.startswith("-"):
            return None
        else:
            colors.append(argument)
    return tuple(colors), listen


def main() -> int:
    """Do what the command line says. Return the exit status."""
    arguments = sys.argv[1:]
    if arguments == ["healthcheck"]:
        from sillyproxy.tools import healthcheck

        return healthcheck.main()
    asked = read_serve(arguments)
    if asked is not None:
        from sillyproxy.serve import serve

        return serve(*asked)

    from sillyproxy.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())

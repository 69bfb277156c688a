"""
What is checked and ejected: an endpoint, by what it is and not by its place.

An `Address` names its upstream by the index among its color's, which a reload may move; a
target names the upstream itself, so that what is known of an endpoint stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.tools.channel import Address
from sillyproxy.traffic.endpoint import name_of


class Target(NamedTuple):
    """An endpoint of a color."""

    color: str
    upstream: Upstream
    ip: str

    @property
    def endpoint(self) -> str:
        """Its address as operators write it."""
        return name_of(self.ip, self.upstream.port)


def target_of(color: Color, address: Address) -> Target | None:
    """Return the target at an address; None if the color has no such upstream (another generation's)."""
    if address.upstream >= len(color.upstreams):
        return None
    return Target(color.name, color.upstreams[address.upstream], address.ip)


def targets_of(
    config: Config, endpoints: Mapping[str, tuple[Address, ...]]
) -> Iterator[tuple[Color, Address, Target]]:
    """Return every endpoint of a configuration, in each of its names."""
    for color in config.colors:
        for address in endpoints.get(color.name, ()):
            if target := target_of(color, address):
                yield color, address, target

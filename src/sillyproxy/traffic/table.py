"""
All colors of one generation, and the way from a request to its color and endpoint.

A `Table` is built beside the old one and put in its place by one assignment. Endpoints
that stay keep their connections and what is known of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sillyproxy.config.schema import Config, Upstream
from sillyproxy.traffic.color import NO_LIMIT, ColorAtWork
from sillyproxy.traffic.endpoint import Endpoint
from sillyproxy.traffic.split import Split

# (index of the upstream in its color, IP address, port), as discovery tells it.
Address = tuple[int, str, int]


def authority_of(upstream: Upstream) -> bytes:
    """Return what Host says of an upstream when the client did not say anything."""
    if upstream.scheme == "unix":
        return b"localhost"
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"{host}:{upstream.port}".encode()


class Table:
    """
    The colors with the split between them.

    `generation` is the Config's. `leaving` are the busy endpoints of colors that are gone, by
    their row in the counts.
    """

    __slots__ = ("_upstreams", "colors", "generation", "leaving", "split", "turns")

    def __init__(self, config: Config, start: float, workers: int = 1) -> None:
        """The split begins at `start`, in [0, 1); of limits this worker, one of `workers`, gets its part."""
        slots = {name: index for index, name in enumerate(config.slots, start=1)}
        self.generation = config.generation
        self.colors = tuple(
            ColorAtWork(
                color.name,
                slots[color.name],
                color.weight,
                b"\r\n%b: %b" % (config.color_header.encode(), color.name.encode()),
                NO_LIMIT if color.max_connections is None else -(-color.max_connections // workers),
            )
            for color in config.colors
        )
        self.leaving: tuple[tuple[int, Endpoint], ...] = ()
        self._upstreams = {color.name: color.upstreams for color in config.colors}
        self.split = Split([color.weight for color in self.colors], start)
        # By the split's index; -1, "no color", is the last.
        self.turns: tuple[ColorAtWork | None, ...] = (*self.colors, None)

    def take_over(self, old: Table) -> list[Endpoint]:
        """
        Go on where another table stops: same turn, same endpoints; return those that are gone.

        An endpoint stays if its URL does. A color that is new has none until discovery tells.
        """
        self.split.go_on_from(old.split)
        gone: list[Endpoint] = []
        leaving = list(old.leaving)
        mine = {color.name: color for color in self.colors}
        for before in old.colors:
            color = mine.get(before.name)
            if color is None:
                leaving += [(before.slot, endpoint) for endpoint in (*before.endpoints, *before.leaving)]
                gone += before.endpoints
                continue
            color.slow_from_ns = before.slow_from_ns
            urls = self._upstreams[color.name]
            stay = []
            for endpoint in before.endpoints:
                url = old._upstreams[before.name][endpoint.upstream]
                if url in urls:
                    endpoint.upstream = urls.index(url)
                    stay.append(endpoint)
                else:
                    gone.append(endpoint)
            color.endpoints = tuple(sorted(stay, key=lambda endpoint: endpoint.upstream))
            left = set(before.endpoints) - set(stay)
            color.leaving = tuple(e for e in (*before.leaving, *left) if e.inflight)
        self.leaving = tuple((slot, endpoint) for slot, endpoint in leaving if endpoint.inflight)
        for endpoint in gone:
            endpoint.gone = True
        return gone

    def can_serve(self) -> bool:
        """Tell whether any color that takes traffic has an endpoint."""
        return any(color.endpoints for color in self.colors if color.weight > 0)

    def is_furnished_by(self, old: Table) -> bool:
        """Tell whether every color that takes traffic would have an endpoint of the old table's."""
        return all(self._kept(old).values())

    def has_any_of(self, old: Table) -> bool:
        """Tell whether any color that takes traffic would have an endpoint of the old table's."""
        return any(self._kept(old).values())

    def _kept(self, old: Table) -> dict[str, bool]:
        before = {
            color.name: {old._upstreams[color.name][endpoint.upstream] for endpoint in color.endpoints}
            for color in old.colors
        }
        return {
            color.name: bool(before.get(color.name, set()) & set(self._upstreams[color.name]))
            for color in self.colors
            if color.weight > 0
        }

    def pick(self) -> ColorAtWork | None:
        """Return the color whose turn it is; None when no color takes traffic."""
        return self.turns[self.split.pick()]

    def pick_again(
        self, color: ColorAtWork, tried: Collection[Endpoint], now_ns: int
    ) -> tuple[ColorAtWork, Endpoint] | None:
        """
        Return where a request goes that the `tried` endpoints could not take; None: nowhere.

        Another endpoint of its color, else of another color with weight > 0 (the heaviest
        first), else one that is avoided or ejected but was not tried.
        """
        # `color` may be another table's: a reload does not wait for the requests under way.
        own = [c for c in self.colors if c.name == color.name]
        others = sorted(
            (c for c in self.colors if c.name != color.name and c.weight > 0), key=lambda c: -c.weight
        )
        for desperate in (False, True):
            for candidate in (*own, *others):
                endpoint = candidate.pick_other(tried, now_ns, desperate=desperate)
                if endpoint is not None:
                    return candidate, endpoint
        return None

    def set_endpoints(self, addresses: Mapping[str, Sequence[Address]]) -> list[Endpoint]:
        """
        Put the colors' endpoints in place, keeping those that stay; return those that are gone.

        A color of which nothing is said keeps all of its own.
        """
        gone: list[Endpoint] = []
        for color in self.colors:
            if color.name not in addresses:
                continue
            known = {(e.upstream, e.ip, e.port): e for e in color.endpoints}
            upstreams = self._upstreams[color.name]
            current = []
            for address in addresses[color.name]:
                upstream, ip, port = address
                if upstream >= len(upstreams):
                    continue  # an older generation's list: the next one is on its way
                endpoint = known.pop((upstream, ip, port), None) or self._come_back(color, upstream, ip, port)
                if endpoint is None:
                    url = upstreams[upstream]
                    endpoint = Endpoint(
                        upstream, ip, port, url.base.encode(), authority_of(url), url.scheme, url.host
                    )
                current.append(endpoint)
            color.endpoints = tuple(current)
            color.leaving = tuple(
                e for e in (*color.leaving, *known.values()) if e.inflight and e not in current
            )
            gone.extend(known.values())
        for endpoint in gone:
            endpoint.gone = True
        return gone

    def _come_back(self, color: ColorAtWork, upstream: int, ip: str, port: int) -> Endpoint | None:
        """Return the endpoint that was here before and is still busy, if there is one: it counts as such."""
        url = self._upstreams[color.name][upstream]
        base, authority = url.base.encode(), authority_of(url)
        mine = [endpoint for slot, endpoint in self.leaving if slot == color.slot]
        for endpoint in (*color.leaving, *mine):
            if (endpoint.ip, endpoint.port, endpoint.base, endpoint.authority, endpoint.scheme) == (
                ip, port, base, authority, url.scheme
            ):  # fmt: skip
                endpoint.gone = False
                endpoint.upstream = upstream
                self.leaving = tuple(each for each in self.leaving if each[1] is not endpoint)
                return endpoint
        return None

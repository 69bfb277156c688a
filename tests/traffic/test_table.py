"""From a request to its color and endpoint."""

from __future__ import annotations

from collections import Counter

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.traffic.table import Table

NOW = 1_000_000_000


def make_table(**weights: float) -> Table:
    """Return a table of colors with two endpoints each."""
    config = Config(
        color_names=tuple(weights),
        slots=tuple(weights),
        colors=tuple(
            Color(name, (Upstream("http", f"myapp-{name}", 8080, f"/{name}"),), weight)
            for name, weight in weights.items()
        ),
        color_header="X-Color",
    )
    table = Table(config, 0.3)
    table.set_endpoints(
        {
            name: [(0, f"10.0.{index}.1", 8080), (0, f"10.0.{index}.2", 8080)]
            for index, name in enumerate(weights)
        }
    )
    return table


def test_rounding_over_replicas_does_not_bend_the_shares() -> None:
    """
    First the color, then the endpoint: a color with many replicas gets no more than its weight says.
    """
    table = make_table(blue=80, green=20)
    table.set_endpoints({"green": [(0, f"10.1.0.{n}", 8080) for n in range(50)]})
    picks: Counter[str] = Counter()
    for _ in range(10_000):
        picked = table.pick()
        assert picked is not None
        picks[picked.name] += 1

    assert abs(picks["green"] - 2000) <= 5


def test_no_color_takes_a_request_when_all_are_drained() -> None:
    """
    All weights at 0: the client is told that there is no backend.
    """
    assert make_table(blue=0, green=0).pick() is None
    assert Table(Config(), 0.3).pick() is None


def test_a_color_tells_the_backend_its_name_in_the_header_that_was_asked_for() -> None:
    """
    SILLYPROXY_COLOR_HEADER names the field; a color's row in the counts is its place among the names.
    """
    blue, green = make_table(blue=1, green=1).colors

    assert (blue.field, blue.slot) == (b"\r\nX-Color: blue", 1)
    assert (green.field, green.slot) == (b"\r\nX-Color: green", 2)


def test_an_absent_color_keeps_its_row() -> None:
    """
    A color that is not deployed does not move the counts of those that are.
    """
    config = Config(color_names=("blue", "green"), colors=(Color("green", (Upstream("http", "g", 80),)),))

    assert [color.slot for color in Table(config, 0.3).colors] == [2]


def test_a_request_goes_to_another_endpoint_of_its_color_first() -> None:
    """
    One dead replica is its color's own matter while another one lives.
    """
    table = make_table(blue=1, green=1)
    blue = table.colors[0]
    dead, alive = blue.endpoints
    dead.fail(NOW)

    assert table.pick_again(blue, [dead], NOW) == (blue, alive)


def test_a_dead_color_is_not_a_users_problem() -> None:
    """
    When every endpoint of a color has failed, another color takes the request, the heaviest first, and
    never one that is drained.
    """
    table = make_table(blue=1, green=5, red=9, grey=0)
    blue, green, red, _ = table.colors
    for endpoint in blue.endpoints:
        endpoint.fail(NOW)
    again = table.pick_again(blue, blue.endpoints, NOW)
    assert again is not None
    assert again[0] is red

    for endpoint in red.endpoints:
        endpoint.fail(NOW)
    again = table.pick_again(blue, blue.endpoints, NOW)
    assert again is not None
    assert again[0] is green


def test_the_last_hope_is_an_endpoint_that_was_avoided() -> None:
    """
    When all are sick, one that this request has not tried is asked all the same; when all were
    tried, there is nowhere to go.
    """
    table = make_table(blue=1, green=1, grey=0)
    blue, green, _ = table.colors
    everyone = [*blue.endpoints, *green.endpoints]
    for endpoint in everyone:
        endpoint.fail(NOW)

    assert table.pick_again(blue, [blue.endpoints[0]], NOW) == (blue, blue.endpoints[1])
    assert table.pick_again(blue, everyone, NOW) is None


def test_endpoints_that_stay_keep_what_is_known_of_them() -> None:
    """
    A look-up that finds a new replica changes nothing for the others; one that has gone is told so.
    """
    table = make_table(blue=1)
    blue = table.colors[0]
    first, second = blue.endpoints
    first.inflight = 3

    gone = table.set_endpoints({"blue": [(0, "10.0.0.9", 8080), (0, first.ip, 8080)]})

    assert gone == [second]
    assert second.gone
    assert not first.gone
    assert blue.endpoints[1] is first
    assert blue.endpoints[0].ip == "10.0.0.9"


def test_a_color_of_which_nothing_is_said_keeps_its_endpoints() -> None:
    """
    News of one color are no news of another.
    """
    table = make_table(blue=1, green=1)
    before = table.colors[1].endpoints

    assert len(table.set_endpoints({"blue": []})) == 2
    assert table.colors[0].endpoints == ()
    assert table.colors[1].endpoints == before


def test_an_endpoint_knows_its_upstreams_base_and_authority() -> None:
    """
    Each URL of a color brings its own path and its own Host for those who name none; an address of
    an upstream that this generation does not have is left out.
    """
    config = Config(
        color_names=("blue",),
        colors=(Color("blue", (Upstream("http", "a", 80, "/v1"), Upstream("http", "fd00::1", 81))),),
    )
    table = Table(config, 0.3)
    table.set_endpoints({"blue": [(0, "10.0.0.1", 80), (1, "fd00::1", 81), (2, "10.0.0.3", 80)]})

    assert [(e.base, e.authority) for e in table.colors[0].endpoints] == [
        (b"/v1", b"a:80"),
        (b"", b"[fd00::1]:81"),
    ]

"""From a request to its color and endpoint."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.traffic.endpoint import Endpoint
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


# From one configuration to the next.


def url(number: int, base: str = "") -> Upstream:
    return Upstream("http", f"10.0.0.{number}", 80, base)


def configure(generation: int = 1, **colors: list[Upstream]) -> Config:
    """Return a configuration of colors with these URLs; a color with none is not there."""
    return Config(
        slots=("blue", "green", "red"),
        colors=tuple(Color(name, tuple(urls)) for name, urls in colors.items() if urls),
        generation=generation,
    )


def furnish(config: Config, replicas: int = 1) -> Table:
    """Return a table whose URLs have so many addresses each, with traffic behind it."""
    table = Table(config, 0.3)
    table.set_endpoints(
        {
            color.name: [
                (index, f"{upstream.host}.{replica}", upstream.port)
                for index, upstream in enumerate(color.upstreams)
                for replica in range(replicas)
            ]
            for color in config.colors
        }
    )
    return table


def find_urls(table: Table, config: Config) -> dict[str, list[Upstream]]:
    """Return the URLs that each color's endpoints are said to belong to."""
    urls = {color.name: color.upstreams for color in config.colors}
    return {color.name: [urls[color.name][e.upstream] for e in color.endpoints] for color in table.colors}


urls = st.lists(st.sampled_from([url(1), url(2), url(3), url(1, "/v2")]), unique=True)


@given(before=urls, after=urls, replicas=st.integers(1, 3))
def test_an_endpoint_stays_if_its_url_does(
    before: list[Upstream], after: list[Upstream], replicas: int
) -> None:
    """
    However a color's URLs are reordered, added to and removed from by a reload: an endpoint whose URL
    stays is the same one, with its connections and its health, and belongs to that URL; the others
    are told that they are gone.
    """
    old = furnish(configure(blue=before, green=[url(9)]), replicas)
    had = {endpoint: before[endpoint.upstream] for color in old.colors[:-1] for endpoint in color.endpoints}
    config = configure(2, blue=after, green=[url(9)])
    new = Table(config, 0.0)
    gone = new.take_over(old)

    stay = [endpoint for color in new.colors if color.name == "blue" for endpoint in color.endpoints]
    assert set(stay) == {endpoint for endpoint, its in had.items() if its in after}
    assert all(after[endpoint.upstream] == had[endpoint] for endpoint in stay)
    assert set(gone) == had.keys() - set(stay)
    assert {endpoint.gone for endpoint in gone} <= {True}
    assert not any(endpoint.gone for endpoint in stay)
    assert new.colors[-1].endpoints == old.colors[-1].endpoints


@given(before=urls.filter(bool), after=urls.filter(bool))
def test_the_list_of_the_new_generation_finds_the_endpoints_that_stayed(
    before: list[Upstream], after: list[Upstream]
) -> None:
    """
    When discovery tells the endpoints of the new configuration, those that stayed are kept once more.
    """
    old = furnish(configure(blue=before))
    config = configure(2, blue=after)
    new = Table(config, 0.0)
    new.take_over(old)
    stayed = set(new.colors[0].endpoints)
    addresses = [(index, f"{upstream.host}.0", 80) for index, upstream in enumerate(after)]

    assert new.set_endpoints({"blue": addresses}) == []
    assert stayed <= set(new.colors[0].endpoints)
    assert find_urls(new, config)["blue"] == after


def test_health_and_load_survive_a_reload() -> None:
    """
    A reload makes nobody well, idle or unknown: unhealthy, ejected, busy endpoints stay so.
    """
    old = furnish(configure(blue=[url(1), url(2), url(3)]))
    one, two, three = old.colors[0].endpoints
    one.set_health(unhealthy=True, now_ns=NOW, slow_ns=0)
    two.eject(NOW + 1, 4, 0)
    three.inflight = 7
    old.colors[0].slow_from_ns = 12345
    new = Table(configure(2, blue=[url(3), url(2), url(1)]), 0.0)
    new.take_over(old)

    assert new.colors[0].endpoints == (three, two, one)
    assert [endpoint.is_eligible(NOW) for endpoint in (one, two, three)] == [False, False, True]
    assert (two.ejections, three.inflight, new.colors[0].slow_from_ns) == (4, 7, 12345)


def test_who_is_busy_on_a_removed_color_is_counted_until_the_end() -> None:
    """
    The endpoints of a color that is gone are remembered by its row in the counts as long as requests
    are under way there, also through further reloads; so are those of a URL that is gone.
    """
    old = furnish(configure(blue=[url(1), url(2)], green=[url(3), url(4)]))
    blue, green = old.colors
    idle, busy = green.endpoints
    busy.inflight = 1
    blue.endpoints[0].inflight = 1
    second = Table(configure(2, blue=[url(2)]), 0.0)
    gone = second.take_over(old)

    assert second.leaving == ((2, busy),)
    assert second.colors[0].leaving == (blue.endpoints[0],)
    assert set(gone) == {idle, busy, blue.endpoints[0]}

    third = Table(configure(3, red=[url(7)]), 0.0)
    third.take_over(second)
    assert set(third.leaving) == {(2, busy), (1, blue.endpoints[0])}

    busy.inflight = 0
    fourth = Table(configure(4, red=[url(7)]), 0.0)
    fourth.take_over(third)
    assert fourth.leaving == ((1, blue.endpoints[0]),)


def test_a_color_that_comes_back_starts_with_new_endpoints() -> None:
    """
    An endpoint that was told to go does not return: a color that is removed and added again has none
    until discovery tells.
    """
    old = furnish(configure(blue=[url(1)], green=[url(2)]))
    leaving: Endpoint = old.colors[1].endpoints[0]
    leaving.inflight = 1
    second = Table(configure(2, blue=[url(1)]), 0.0)
    second.take_over(old)
    third = Table(configure(3, blue=[url(1)], green=[url(2)]), 0.0)
    third.take_over(second)

    assert third.colors[1].endpoints == ()
    assert third.leaving == ((2, leaving),)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3000), st.integers(1, 3000))
def test_the_split_is_exact_over_a_reload(start: float, before: int, after: int) -> None:
    """
    A reload begins no new sequence of turns: of the requests before and after it together each color
    gets its share to within a few, wherever the reload falls.
    """
    config = Config(colors=(Color("blue", (url(1),), 80), Color("green", (url(2),), 20)))
    table = Table(config, start)
    green = 0
    for count in (before, after):
        for _ in range(count):
            picked = table.pick()
            green += picked is not None and picked.name == "green"
        new = Table(config, 0.0)
        new.take_over(table)
        table = new

    assert abs(green - (before + after) / 5) <= 8


def test_a_hundred_reloads_do_not_bend_the_split() -> None:
    """
    A reload after every seventh request: 10,000 requests at 80/20 are within five of 2,000.
    """
    config = Config(colors=(Color("blue", (url(1),), 80), Color("green", (url(2),), 20)))
    table = Table(config, 0.9)
    green = 0
    for number in range(10_000):
        picked = table.pick()
        green += picked is not None and picked.name == "green"
        if number % 7 == 0:
            new = Table(config, 0.5)
            new.take_over(table)
            table = new

    assert abs(green - 2000) <= 5


def test_a_table_is_furnished_if_every_color_that_takes_traffic_has_an_endpoint() -> None:
    """
    A new configuration can serve at once if each of its colors with weight has an endpoint of the old
    one's; one that is drained does not matter.
    """
    old = furnish(configure(blue=[url(1), url(2)], green=[url(3)]))

    def is_furnished(*colors: Color) -> bool:
        return Table(Config(colors=colors, slots=("blue", "green", "red")), 0.0).is_furnished_by(old)

    assert is_furnished(Color("blue", (url(2), url(5))))
    assert is_furnished(Color("blue", (url(1),)), Color("red", (url(7),), weight=0))
    assert is_furnished(Color("blue", (url(7),), weight=0))
    assert not is_furnished(Color("blue", (url(5),)))
    assert not is_furnished(Color("blue", (url(3),)))
    assert not is_furnished(Color("blue", (url(1),)), Color("red", (url(7),)))


def test_a_limit_is_shared_out_among_the_workers() -> None:
    """
    <COLOR>_MAX_CONNECTIONS holds for the whole proxy: each worker has its part, rounded up, so that
    nobody has none.
    """

    def find_limits(workers: int) -> list[int]:
        colors = [Color("blue", (url(1),), max_connections=limit) for limit in (1, 8, 10)]
        return [Table(Config(colors=(color,)), 0.0, workers).colors[0].limit for color in colors]

    assert find_limits(1) == [1, 8, 10]
    assert find_limits(4) == [1, 2, 3]
    assert Table(configure(blue=[url(1)]), 0.0, 4).colors[0].limit > 10**6

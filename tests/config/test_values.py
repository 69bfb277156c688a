"""How values are written: what is read, what is refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config import values
from sillyproxy.config.schema import Listener, Upstream
from sillyproxy.config.settings import SETTINGS
from sillyproxy.config.values import Refused, duration_reader, leaves, size_reader

wait = duration_reader(0.001)
pause = duration_reader(0)
head_size = size_reader(1024, 1 << 20)
body_size = size_reader(0, 1 << 50)


def reasons(read: Callable[[str], Any], text: str) -> list[str]:
    """Return why a text is refused, with the remedies; empty if it is read."""
    found: list[str] = []
    try:
        read(text)
    except* Refused as group:
        found = [f"{e.reason}; {e.remedy}" for e in leaves(group)]
    return found


@pytest.mark.parametrize(
    ("text", "weight"),
    [("0", 0.0), ("1", 1.0), ("80", 80.0), ("0.5", 0.5), (".25", 0.25), ("007", 7.0), ("1000000", 1e6)],
)
def test_weight_is_a_decimal_number(text: str, weight: float) -> None:
    """
    A weight is a plain decimal number, 0 or more.
    """
    assert values.read_weight(text) == weight


@pytest.mark.parametrize(
    "text",
    [
        "ten",
        "-1",
        "+1",
        "1e3",
        "nan",
        "inf",
        "Infinity",
        "1_000",
        "0x10",
        "1.",
        ".",
        "1.2.3",
        "\u0661",
        "½",
        "1000001",
        "1,5",
        "80%",
        "1/2",
        "1 2",
        "-",
        "9" * 5000,
    ],
)
def test_weight_that_is_no_plain_number_is_refused(text: str) -> None:
    """
    What only a programming language takes for a number is a slip in a weight.
    """
    assert len(reasons(values.read_weight, text)) == 1


@pytest.mark.parametrize(("text", "remedy"), [("80%", "did you mean 80 ?"), ("1,5", "did you mean 1.5 ?")])
def test_weight_written_another_way_is_understood_and_corrected(text: str, remedy: str) -> None:
    """
    A percent sign or a decimal comma is answered with the weight that was meant.
    """
    assert remedy in reasons(values.read_weight, text)[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("2s", 2.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("1H", 3600.0),
        ("250MS", 0.25),
        ("168h", 604800.0),
    ],
)
def test_duration_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    """
    A duration is a number of seconds, or a number with ms, s, m or h.
    """
    assert wait(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "-1",
        "-1s",
        "+1s",
        "1e3",
        "1d",
        "1sec",
        "1m30s",
        "s",
        "ms",
        ".",
        "nan",
        "inf",
        "\u0663s",
        "1µs",
        "169h",
        "1 s",
        "9" * 5000,
    ],
)
def test_duration_in_another_form_is_refused(text: str) -> None:
    """
    A duration with an unknown unit, a sign, an exponent, or without end is refused.
    """
    assert len(reasons(pause, text)) == 1


def test_wait_may_not_be_zero_and_a_pause_may() -> None:
    """
    No timeout can be switched off by 0, since every wait has an end; a drain may take no time.
    """
    assert reasons(wait, "0") == ["less than 1ms; "]
    assert pause("0") == 0.0


@pytest.mark.parametrize(
    ("text", "share"),
    [("0", 0.0), ("50", 0.5), ("50%", 0.5), ("50 %", 0.5), ("100%", 1.0), ("12.5%", 0.125), ("0.5%", 0.005)],
)
def test_percentage_is_a_number_with_or_without_its_sign(text: str, share: float) -> None:
    """
    A share is written in percent.
    """
    assert values.read_percent(text) == share


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("half", "not a number"),
        ("-1", "less than 0"),
        ("-1%", "less than 0"),
        ("101", "more than 100"),
        ("100.1%", "more than 100"),
        ("1e1", "not a number"),
        ("50%%", "not a number"),
        ("%", "not a number"),
        ("50 percent", "not a number"),
        ("0.5", "write 50% or 0.5%"),
        (".25", "write 25% or 0.25%"),
        ("9" * 5000, "more than 100"),
    ],
)
def test_percentage_in_another_form_is_refused_with_the_reason(text: str, part: str) -> None:
    """
    A share beyond the whole, or one that might be meant as a part of 1, is refused.
    """
    (reason,) = reasons(values.read_percent, text)
    assert part in reason


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("200", ((200, 200),)),
        ("200-399", ((200, 399),)),
        ("2xx", ((200, 299),)),
        ("5XX", ((500, 599),)),
        ("200,204", ((200, 200), (204, 204))),
        (" 200 - 299 , 404 ", ((200, 299), (404, 404))),
        ("2xx,200-299", ((200, 299),)),
        ("599", ((599, 599),)),
    ],
)
def test_statuses_are_codes_ranges_and_classes(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    """
    The codes of a good check are listed one by one, as ranges or as classes.
    """
    assert values.read_statuses(text) == ranges


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ok", "not a status code"),
        ("20", "not a status code"),
        ("2000", "not a status code"),
        ("2x", "not a status code"),
        ("20x", "not a status code"),
        ("200-", "not a status code"),
        ("-200", "not a status code"),
        ("200-300-400", "not a status code"),
        ("\u0662xx", "not a status code"),
        ("\u0662\u0660\u0660", "not a status code"),
        ("100", "from 200 to 599"),
        ("1xx", "from 200 to 599"),
        ("200-600", "from 200 to 599"),
        ("6xx", "from 200 to 599"),
        ("299-200", "did you mean 200-299 ?"),
        ("200,", "nothing between two commas"),
        (",".join(str(n) for n in range(200, 233)), "33 items are more than 32"),
    ],
)
def test_statuses_in_another_form_are_refused_with_the_reason(text: str, part: str) -> None:
    """
    A code that no answer has, or a list that is none, is refused.
    """
    (reason,) = reasons(values.read_statuses, text)
    assert part in reason


def test_each_bad_status_of_a_list_is_told() -> None:
    """
    Two slips in one list show at once.
    """
    assert len(reasons(values.read_statuses, "2xx,ok,100")) == 2


@pytest.mark.parametrize(
    "text", ["/", "/healthz", "/a/b.c?d=e&f=%20g?/", "/~a;b=c,d@e:f!$&'()*+", "//x", "/?", "/" + "x" * 999]
)
def test_path_of_a_health_check_is_sent_as_it_is_written(text: str) -> None:
    """
    A path, with or without a query, that may stand in a request line.
    """
    assert values.read_probe_path(text) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("healthz", "did you mean /healthz ?"),
        ("?a", "does not begin with /"),
        ("a b", "does not begin with /; "),
        ("grpc:a-b", "not the full name of a service"),
        ("http://a/healthz", "a URL, not a path"),
        ("/a b", "write them as %XX"),
        ("/a\tb", "write them as %XX"),
        ("/a?b c", "write them as %XX"),
        ("/ä", "write them as %XX"),
        ("/%zz", "write them as %XX"),
        ("/%", "write them as %XX"),
        ('/"', "write them as %XX"),
        ("/a#b", "fragment"),
        ("/" + "x" * 1000, "longer than 1000"),
    ],
)
def test_path_that_a_request_cannot_have_is_refused_with_the_reason(text: str, part: str) -> None:
    """
    A blank or another character that would break the request line never gets into a check.
    """
    (reason,) = reasons(values.read_probe_path, text)
    assert part in reason


@pytest.mark.parametrize(
    ("text", "part"),
    [("0", "less than 1"), ("1001", "more than 1000"), ("two", "not a whole number"), ("1.5", "not a whole")],
)
def test_count_has_bounds(text: str, part: str) -> None:
    """
    A count that can never be reached, or that says nothing, is refused.
    """
    (reason,) = reasons(values.count_reader(1, 1000), text)
    assert part in reason


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1", 1), ("64k", 65536), ("10m", 10 << 20), ("1g", 1 << 30), ("1G", 1 << 30), ("010", 10)],
)
def test_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    """
    A size is a number of bytes, or a whole number with k, m or g.
    """
    assert body_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["big", "-1", "1.5m", "1kb", "1t", "k", "1e3", "0x10", "1_0", "\u0663k", "9999999g", "1 k", "9" * 5000],
)
def test_size_in_another_form_is_refused(text: str) -> None:
    """
    A size with a sign, decimals or an unknown unit, or past all memory, is refused.
    """
    assert len(reasons(body_size, text)) == 1


@pytest.mark.parametrize("text", ["0", "1023", "1025k", "2m"])
def test_head_size_has_sane_bounds(text: str) -> None:
    """
    A head limit that no browser's request fits in, or that invites abuse, is refused.
    """
    assert len(reasons(head_size, text)) == 1


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        (":8080", Listener("", 8080)),
        (":0", Listener("", 0)),
        ("127.0.0.1:8080", Listener("127.0.0.1", 8080)),
        ("localhost:8080", Listener("127.0.0.1", 8080)),
        ("[::]:8080", Listener("::", 8080)),
        ("[0:0:0:0:0:0:0:1]:80", Listener("::1", 80)),
        ("unix:/run/silly.sock", Listener(path="/run/silly.sock")),
        ("unix:/" + "x" * 106, Listener(path="/" + "x" * 106)),
    ],
)
def test_listener_is_an_address_with_a_port_or_a_socket_path(text: str, listener: Listener) -> None:
    """
    An address to serve on is a port of all addresses, of one, or the path of a unix socket.
    """
    assert values.read_listener(text) == listener


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("8080", "did you mean :8080 ?"),
        ("*:8080", "did you mean :8080 ?"),
        ("127.0.0.1", "did you mean 127.0.0.1:8080 ?"),
        ("::1:8080", "brackets"),
        ("[::1]", "no port"),
        ("[::1", "not an address"),
        ("[::g]:80", "IPv6"),
        ("[fe80::1%eth0]:80", "zone"),
        ("example.org:80", "IPv4"),
        ("127.0.0.256:80", "IPv4"),
        (":65536", "65535"),
        (":-1", "65535"),
        (":", "65535"),
        (":٨٠", "65535"),
        (":http", "65535"),
        ("http://:8080", "not a URL"),
        ("/run/silly.sock", "unix:"),
        ("unix:silly.sock", "begins with /"),
        ("unix:@silly", "begins with /"),
        ("unix:/run/", "names a file"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("unix:/" + "é" * 54, "107 bytes"),
        ("unix:", "begins with /"),
    ],
)
def test_listener_in_another_form_is_refused_with_the_reason(text: str, part: str) -> None:
    """
    An address that cannot be bound is refused with what is wrong with it.
    """
    (reason,) = reasons(values.read_listener, text)
    assert part in reason


@pytest.mark.parametrize(
    "text",
    [
        ":80,:80",
        ":80,127.0.0.1:80",
        "[::]:80,[::1]:80",
        "0.0.0.0:80,127.0.0.1:80",
        "unix:/a,unix:/a",
        "0.0.0.0:80,:80",
    ],
)
def test_two_listeners_on_the_same_connections_are_refused(text: str) -> None:
    """
    Two addresses that would accept the same connections are one address too many.
    """
    (reason,) = reasons(values.read_listeners, text)
    assert "covered by" in reason


@pytest.mark.parametrize(
    "text", [":80,:81", "127.0.0.1:80,[::1]:80", "0.0.0.0:80,[::]:80", ":0,:0", "unix:/a,unix:/b,:80"]
)
def test_listeners_beside_each_other_are_accepted(text: str) -> None:
    """
    Several addresses may be served on, as long as each takes connections of its own.
    """
    assert len(values.read_listeners(text)) == text.count(",") + 1


@pytest.mark.parametrize("text", ["off", "OFF"])
def test_admin_listener_may_be_off(text: str) -> None:
    """
    The admin listener can be switched off.
    """
    assert values.read_admin(text) is None


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://myapp-v1:8080", Upstream("http", "myapp-v1", 8080)),
        ("http://myapp", Upstream("http", "myapp", 80)),
        ("HTTP://myapp/", Upstream("http", "myapp", 80)),
        ("http://proj_web_1:80", Upstream("http", "proj_web_1", 80)),
        ("http://_srv.example.org.:80", Upstream("http", "_srv.example.org.", 80)),
        ("http://10.0.0.1:1", Upstream("http", "10.0.0.1", 1)),
        ("http://[::1]:65535", Upstream("http", "::1", 65535)),
        ("http://[2001:DB8::1]", Upstream("http", "2001:db8::1", 80)),
        ("http://a/base/", Upstream("http", "a", 80, "/base")),
        ("http://a/b//c/%2F;x=@:!$&'()*+~", Upstream("http", "a", 80, "/b//c/%2F;x=@:!$&'()*+~")),
        ("http://1a.2b", Upstream("http", "1a.2b", 80)),
    ],
)
def test_upstream_is_a_url_with_host_port_and_base(text: str, upstream: Upstream) -> None:
    """
    A color's URL may name a port and a base path, and its host may be a Docker name or an address.
    """
    assert values.read_upstream(text) == upstream


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("myapp-v2:8080", "no scheme; did you mean http://myapp-v2:8080 ?"),
        ("[::1]:80", "no scheme; did you mean http://[::1]:80 ?"),
        ("http:/myapp", "no scheme; "),
        ("//myapp", "no scheme; "),
        ("://", "no scheme; "),
        ("unix:app.sock", "begins with /"),
        ("ftp://myapp", "scheme ftp"),
        ("tcp://myapp:80", "scheme tcp"),
        ("http://", "no host"),
        ("http:///base", "no host"),
        ("http://:80", "no host"),
        ("http://a:0", "65535"),
        ("http://a:65536", "65535"),
        ("http://a:", "65535"),
        ("http://a:8o", "65535"),
        ("http://a:80:80", "brackets"),
        ("http://a:٨٠", "65535"),
        ("http://a:" + "9" * 5000, "65535"),
        ("http://::1", "brackets"),
        ("http://[::1", "not a host"),
        ("http://[::1]x", "not a host"),
        ("http://[::ffff:1.2.3.256]", "IPv6"),
        ("http://[fe80::1%25eth0]", "IPv6"),
        ("http://10.0.0.256", "IPv4"),
        ("http://127.1", "IPv4"),
        ("http://1", "IPv4"),
        ("http://010.0.0.1", "IPv4"),
        ("http://a b", "not a host name"),
        ("http://-a", "not a host name"),
        ("http://a..b", "not a host name"),
        ("http://.a", "not a host name"),
        ("http://" + "a" * 64, "not a host name"),
        ("http://" + "a." * 127 + "a", "not a host name"),
        ("http://münchen", "xn--"),
        ("http://a?b", "query"),
        ("http://a/b?", "query"),
        ("http://a#b", "fragment"),
        ("http://a/b c", "%XX"),
        ("http://a/é", "%XX"),
        ("http://a/%", "%XX"),
        ("http://a/%2", "%XX"),
        ("http://a/%zz", "%XX"),
        ('http://a/"', "%XX"),
        ("http://a/\\", "%XX"),
        ("http://a/" + "b" * 2000, "2000"),
    ],
)
def test_upstream_in_another_form_is_refused_with_the_reason(text: str, part: str) -> None:
    """
    A URL that could not be served from is refused with what is wrong with it.
    """
    (reason,) = reasons(values.read_upstream, text)
    assert part in reason


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@a",
        "user:hunter2@a:80",
        "http://user:hunter2,hunter3@a",
        "http://b,http://user:hunter2@a/x",
    ],
)
def test_password_in_a_url_is_refused_and_never_shown(text: str) -> None:
    """
    A password in a URL is refused; neither the reason nor the value shown repeats it.
    """
    (reason,) = reasons(values.read_upstreams, text)
    assert "hunter" not in reason + values.show_text(text)
    assert "user or password" in reason


def test_every_wrong_item_of_a_list_is_reported() -> None:
    """
    Of three URLs the two wrong ones are both reported, each by its own text.
    """
    found = reasons(values.read_upstreams, "http://a, b ,ftp://c")
    assert [r.partition(":")[0] for r in found] == ["b", "ftp"]


@pytest.mark.parametrize("text", ["http://a,", ",http://a", "http://a,,http://b", ","])
def test_empty_item_of_a_list_is_refused(text: str) -> None:
    """
    A comma with nothing beside it is more likely a lost variable than a wish.
    """
    assert "between two commas" in reasons(values.read_upstreams, text)[0]


def test_url_named_twice_is_refused() -> None:
    """
    The same URL twice is not a way to double its share.
    """
    assert "twice" in reasons(values.read_upstreams, "http://a,http://a:80/")[0]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("blue", ("blue",)),
        ("Blue, GREEN", ("blue", "green")),
        ("a-b,c_d,9", ("a-b", "c_d", "9")),
        ("key,blue-canary,blue", ("key", "blue-canary", "blue")),
    ],
)
def test_color_names_are_lowered_and_keep_their_order(text: str, names: tuple[str, ...]) -> None:
    """
    Colors are known by their names in small letters, in the order they are given.
    """
    assert values.read_color_names(text) == names


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bl ue", "not a color's name"),
        ("blü", "not a color's name"),
        ("a.b", "not a color's name"),
        ("-a", "not a color's name"),
        ("_a", "not a color's name"),
        ("a" * 64, "not a color's name"),
        ("a,,b", "between two commas"),
        ("blue,BLUE", "twice"),
        ("a-b,a_b", "A_B"),
        ("blue,blue-weight", "BLUE_WEIGHT"),
        ("blue_weight,blue", "BLUE_WEIGHT"),
        ("blue,blue-health", "BLUE_HEALTH"),
        ("sillyproxy", "SILLYPROXY_"),
        ("sillyproxy-listen", "SILLYPROXY_"),
        (",".join(f"c{n}" for n in range(32)), "31"),
    ],
)
def test_color_name_that_cannot_be_told_apart_is_refused(text: str, part: str) -> None:
    """
    A color's name must be plain, and its variables must belong to it alone.
    """
    (reason,) = reasons(values.read_color_names, text)
    assert part in reason


@pytest.mark.parametrize("text", ["Color", "x-color", "X_Variant", "!#$%&'*+.^_`|~-"])
def test_color_header_may_be_any_free_field_name(text: str) -> None:
    """
    Any field name that HTTP leaves free may carry the color.
    """
    assert values.read_field_name(text) == text


@pytest.mark.parametrize(
    "text", ["Co lor", "Color:", "Couleür", "a" * 65, *sorted(values.TAKEN_FIELDS), "HOST"]
)
def test_color_header_that_http_uses_is_refused(text: str) -> None:
    """
    A color in Host, Content-Length, Connection or the like would break every request.
    """
    assert len(reasons(values.read_field_name, text)) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("::1", "::1/128"),
        ("FD00::/8", "fd00::/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0/8, ::1,10.0.0.0/8", "10.0.0.0/8,::1/128"),
    ],
)
def test_network_is_a_prefix_or_an_address(text: str, shown: str) -> None:
    """
    Trusted proxies are networks or single addresses; naming one twice is harmless.
    """
    assert values.show_networks(values.read_networks(text)) == shown


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8 ?"),
        ("fd00::1/8", "did you mean fd00::/8 ?"),
        ("10.0.0.0/33", "not a network"),
        ("10.0.0.0/" + "9" * 5000, "not a network"),
        ("10.0.0.0/255.0.0.0", "not a network"),
        ("10.0.0.0/", "not a network"),
        ("/8", "not a network"),
        ("10.0.0/8", "not a network"),
        ("10.0.0.0/٨", "not a network"),
        ("fe80::1%eth0", "not a network"),
        ("all", "not a network"),
        ("*", "not a network"),
    ],
)
def test_network_in_another_form_is_refused(text: str, part: str) -> None:
    """
    A network that is not written to the bit is refused, and the one that was meant is named.
    """
    (reason,) = reasons(values.read_network, text)
    assert part in reason


@pytest.mark.parametrize(
    ("text", "target"), [("STDOUT", "stdout"), ("off", "off"), ("/var/log/a", "/var/log/a"), ("./A", "./A")]
)
def test_log_target_is_a_word_or_a_path(text: str, target: str) -> None:
    """
    The access log goes to a stream, nowhere, or to a file whose path has a slash.
    """
    assert values.read_log_target(text) == target


@pytest.mark.parametrize(
    ("text", "part"),
    [("stdot", "did you mean stdout ?"), ("a.log", "did you mean ./a.log ?"), ("/tmp/", "directory")],
)
def test_log_target_that_is_a_slip_is_refused(text: str, part: str) -> None:
    """
    A mistyped word does not quietly become a file of that name.
    """
    assert part in reasons(values.read_log_target, text)[0]


@pytest.mark.parametrize(("text", "workers"), [("auto", None), ("AUTO", None), ("1", 1), ("64", 64)])
def test_workers_are_a_number_or_auto(text: str, workers: int | None) -> None:
    """
    Workers are counted from 1 to 64, or left to the proxy.
    """
    assert values.read_workers(text) == workers


@pytest.mark.parametrize("text", ["0", "65", "-1", "1.5", "two", "automatic", "٣", "9" * 5000])
def test_other_numbers_of_workers_are_refused(text: str) -> None:
    """
    No worker, half a worker or a hundred of them are refused.
    """
    assert len(reasons(values.read_workers, text)) == 1


def test_mistyped_word_is_answered_with_the_nearest() -> None:
    """
    A mistyped word is refused, and the word that was probably meant is named.
    """
    assert reasons(values.word_reader("text", "json"), "jsn") == ["unknown word; did you mean json ?"]


@given(st.floats(0.001, values.MAX_DURATION_S))
def test_duration_survives_showing(seconds: float) -> None:
    """
    A duration that is shown can be typed back and is the same.
    """
    assert wait(values.show_duration(seconds)) == seconds


@given(st.integers(0, 1 << 50))
def test_size_survives_showing(size: int) -> None:
    """
    A size that is shown can be typed back and is the same.
    """
    assert body_size(values.show_size(size)) == size


@given(st.floats(0, 1))
def test_percentage_survives_showing(share: float) -> None:
    """
    A share that is shown in percent can be typed back and is the same.
    """
    assert values.read_percent(values.show_percent(share)) == share


@given(st.floats(0, values.MAX_WEIGHT))
def test_weight_survives_showing(weight: float) -> None:
    """
    A weight that is shown can be typed back and is the same.
    """
    assert values.read_weight(values.show_weight(weight)) == weight


PIECES = [
    "http://",
    "a",
    "b.c",
    ":80",
    "/x/",
    "[::1]",
    "127.0.0.1",
    ",",
    "unix:/s",
    "10.0.0.0/8",
    "5",
    "k",
    "ms",
    "%",
    "50",
    "200",
    "-",
    "xx",
    "/up?a",
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=5).map("".join))
def test_reader_reads_or_refuses_and_what_it_reads_survives_showing(setting: Any, text: str) -> None:
    """
    Whatever is typed is read or refused; what is read, shown and typed back is the same.
    """
    value = None
    with suppress(Refused, ExceptionGroup):  # a group of anything else shows itself in test_parse
        value = setting.kind.read(text)
    if value is not None:
        assert setting.kind.read(setting.kind.show(value)) == value

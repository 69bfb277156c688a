"""The scenarios: one row each. A new one is a new row, and a load if none of these fits."""

from __future__ import annotations

from dataclasses import dataclass

from bench.origins import BODIES, PAGES

# What Chrome sends for a page over HTTP/1.1: 15 fields.
BROWSER = """GET {path} HTTP/1.1
Host: shop.example.com
Connection: keep-alive
sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) {chrome}
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-GB,en;q=0.9,de;q=0.8
Cookie: session={cookie}; theme=dark; consent=1; _ga=GA1.1.1203417733.1712345678

"""


def build_head(path: str, cookie: str) -> str:
    return BROWSER.format(path=path, cookie=cookie, chrome="Chrome/130.0.0.0 Safari/537.36").replace(
        "\n", "\r\n"
    )


CLOSING = "GET /tiny HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Scenario:
    """
    One kind of traffic.

    `load` is `wrk` with a request of load.lua, or a kind of bench.load; `size_bytes` is what a client
    sends. `idle` is the number of connections that are opened first and then left alone; such a
    scenario starts each subject anew, because memory that was once taken is seldom given back.
    """

    name: str
    title: str
    connections: int
    load: str = "wrk"
    request: str = "tiny"
    head: str = ""
    path: str = "/tiny"
    size_bytes: int = 0
    origin: str = PAGES
    workers: int = 1
    idle: int = 0


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("tiny", "Tiny GET", 64),
        Scenario(
            "browser",
            "Browser's GET, 4 KiB back",
            64,
            request="fixed",
            head=build_head("/page/products/4711?ref=home", "d41d8cd98f00b204e9800998ecf8427e"),
        ),
        Scenario(
            "varied",
            "Browser's GET, each different",
            64,
            request="varied",
            head=build_head("/page/products/%N%?ref=home", "d41d8cd98f00b204%N%"),
        ),
        Scenario("1m", "1 MiB down", 16, path="/1m.bin"),
        Scenario("100m", "100 MiB down", 4, load="download", path="/100m.bin"),
        Scenario("upload", "64 MiB up", 4, load="upload", path="/upload", size_bytes=64 << 20, origin=BODIES),
        Scenario("close", "New connection per request", 64, request="fixed", head=CLOSING),
        Scenario("single", "One connection", 1),
        Scenario(
            "echo", "WebSocket echo, 256 bytes", 32, "echo", path="/echo", size_bytes=256, origin=BODIES
        ),
        Scenario("idle", "Tiny GET beside 5,000 idle", 64, idle=5000),
        Scenario("two", "Tiny GET, two workers", 128, workers=2),
    )
}

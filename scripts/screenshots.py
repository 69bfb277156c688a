"""
Take the pictures of the dashboard for the docs: the canary of canary.py, in a real Chromium.

    python -m scripts.screenshots [DIRECTORY]    five minutes; into docs/images otherwise

The lines on the page reach back five minutes, so that is how long it takes. Needs Chromium; looks
best where the font Inter is installed.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser, async_playwright
from scripts.canary import Canary

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PLAYED_S = 300.0
PATIENCE_S = 120.0
MOST_BYTES = 200_000
# Few enough for a small file, many enough for smooth letters.
PALETTE = 96
PICTURES: dict[str, dict[str, Any]] = {
    "dashboard-light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 1570}},
    "dashboard-dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 1570}},
    "dashboard-phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 1340},
        "has_touch": True,
        "is_mobile": True,
    },
}


async def main() -> int:
    """Play, wait for the moment that tells most, and take the pictures."""
    images = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("there is no chromium on the path", file=sys.stderr)
        return 1
    canary = Canary()
    with tempfile.TemporaryDirectory(prefix="canary-") as directory:
        playing = asyncio.create_task(canary.run(Path(directory)))
        try:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                await wait_telling(canary, playing)
                for name, look in PICTURES.items():
                    await take(browser, f"http://{canary.admin}/", look, images / f"{name}.png")
        finally:
            playing.cancel()
            await asyncio.wait([playing])
    return 0


async def wait_telling(canary: Canary, playing: asyncio.Task[None]) -> None:
    """Wait until the lines are long, green is worse, and an endpoint is ejected for some time still."""
    begun = time.monotonic()
    while True:
        await asyncio.sleep(1.0)
        if playing.done():
            playing.result()
        played = time.monotonic() - begun
        if played < PLAYED_S:
            continue
        frame = await asyncio.to_thread(read_frame, canary.admin)
        endpoints = [endpoint for color in frame["colors"] for endpoint in color["endpoints"]]
        left = max((endpoint["until"] or 0.0) - frame["time"] for endpoint in endpoints)
        if frame["comparisons"][0]["verdict"] == "worse" and left > 15:
            return
        if played > PLAYED_S + PATIENCE_S:
            raise RuntimeError(f"green does too well: {frame['comparisons']}")


def read_frame(admin: str) -> Any:
    """Return what the page is shown."""
    with urllib.request.urlopen(f"http://{admin}/api/live") as response:
        return json.load(response)


async def take(browser: Browser, url: str, look: dict[str, Any], path: Path) -> None:
    """Open the page, let it settle, and save its picture in few colors."""
    context = await browser.new_context(**look)
    page = await context.new_page()
    await page.goto(url)
    await page.locator("#comparison tbody tr").first.wait_for()
    await page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
    await context.close()
    few = picture.quantize(PALETTE, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path} {path.stat().st_size} bytes")
    if path.stat().st_size > MOST_BYTES:
        raise RuntimeError(f"{path} is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

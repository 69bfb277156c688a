"""Write docs/reference/settings.md from the table of settings. A test checks that it is current."""

from pathlib import Path

from sillyproxy.config.report import settings_page

if __name__ == "__main__":
    page = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(settings_page(), encoding="utf-8")

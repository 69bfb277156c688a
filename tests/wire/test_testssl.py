"""testssl.sh (Debian's), which tries everything that was ever wrong with TLS, finds nothing here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import find_free_port
from tests.wire.stress_tools import origin, serving

# Of the certificate of a test, not of the server: its authority is nobody's, and has no lists of what it
# revoked. And what a backend says in its answers, which this one does not.
NOT_OURS = ("cert_", "chain_of_trust", "security_headers", "HSTS", "OCSP", "DNS_CAA", "banner", "cookie")
# WARN is about testssl.sh itself: what its own OpenSSL cannot try.
FINE = ("OK", "INFO", "LOW", "DEBUG", "WARN")


@pytest.mark.slow
def test_nothing_above_low(tmp_path: Path) -> None:
    make_certificate(make_authority(tmp_path), tmp_path, "edge", "DNS:localhost")
    port = find_free_port()
    report = tmp_path / "report.json"
    with origin() as server:
        env = {
            "BLUE": server.url,
            "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
            "SILLYPROXY_TLS_CERT": str(tmp_path / "edge.pem"),
            "SILLYPROXY_TLS_KEY": str(tmp_path / "edge.key"),
        }
        with serving(env):
            subprocess.run(
                [
                    *("testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"),
                    *("-p", "-s", "-f", "-U", "-S", "--jsonfile", str(report), f"localhost:{port}"),
                ],
                capture_output=True,
                timeout=400,
                stdin=subprocess.DEVNULL,
            )
    found = json.loads(report.read_text())
    assert len(found) > 60, found
    versions = {each["id"]: each["finding"] for each in found if each["id"].startswith(("TLS1", "SSLv"))}
    assert "not offered" in versions["TLS1"]
    assert "offered" in versions["TLS1_3"]
    wrong = [
        (each["id"], each["severity"], each["finding"])
        for each in found
        if each["severity"] not in FINE and not each["id"].startswith(NOT_OURS)
    ]
    assert wrong == []

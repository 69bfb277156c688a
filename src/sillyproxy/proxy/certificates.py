"""
Which certificate a client is shown, by the host name that it asks for (SNI; RFC 6066, 3).

All connections begin with one context, `base`, which has no certificate but the keys of session
tickets. It is made before the workers are forked, so that a session that began in one is taken up
by the others. What a configuration brings is in contexts of its own, made anew with each.
"""

from __future__ import annotations

import ssl
from typing import Final

from sillyproxy.config.schema import Certificate, Tls
from sillyproxy.tools import pem

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}


class Certificates:
    """
    The certificates of TLS listeners. `apply` puts those of a configuration in force.

    `base` is the context that every connection begins with; it is changed here, and nowhere else.
    """

    def __init__(self, base: ssl.SSLContext) -> None:
        self.base = base
        self._first: ssl.SSLContext | None = None
        self._by_name: dict[str, ssl.SSLContext] = {}
        base.sni_callback = self._choose

    def apply(self, tls: Tls, protocols: list[str]) -> None:
        """
        Show the certificates of `tls` from now on, and offer these protocols (ALPN; RFC 7301).

        Raise Unusable, and all is as before.
        """
        by_name: dict[str, ssl.SSLContext] = {}
        contexts = [self._make_context(tls, certificate, protocols) for certificate in tls.certificates]
        for certificate, context in zip(tls.certificates, contexts, strict=True):
            for name in certificate.names:
                by_name.setdefault(name, context)
        self._first, self._by_name = (contexts[0] if contexts else None), by_name
        self._restrict(self.base, tls)

    @staticmethod
    def _restrict(context: ssl.SSLContext, tls: Tls) -> None:
        context.minimum_version = _VERSIONS[tls.minimum]
        context.verify_mode = _CLIENT_AUTH[tls.client_auth] if tls.client_ca else ssl.CERT_NONE

    def _make_context(self, tls: Tls, certificate: Certificate, protocols: list[str]) -> ssl.SSLContext:
        context = pem.make_server_context()
        pem.load_pair(context, certificate.chain, certificate.key)
        context.set_alpn_protocols(protocols)
        if tls.client_ca:
            pem.load_authorities(context, tls.client_ca)
        self._restrict(context, tls)
        return context

    def _choose(self, session: ssl.SSLObject, name: str | None, _base: ssl.SSLContext) -> int | None:
        """Choose by the name that the client asks for, if it asks for one."""
        context = self._first
        if name and self._by_name:
            name = name.lower()
            # RFC 6125, 6.4.3: `*` stands for one label, and an exact name is better.
            wild = f"*.{name.partition('.')[2]}"
            context = self._by_name.get(name) or self._by_name.get(wild) or context
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        session.context = context
        return None

"""What the operator asked for: text in, one frozen Config or all problems out."""

from sillyproxy.config.parse import (
    ColorCredentials,
    ConfigError,
    Credentials,
    Problem,
    Reading,
    load,
    make_draft,
)

__all__ = ["ColorCredentials", "ConfigError", "Credentials", "Problem", "Reading", "load", "make_draft"]

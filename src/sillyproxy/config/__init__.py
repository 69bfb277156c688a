"""What the operator asked for: text in, one frozen Config or all problems out."""

from sillyproxy.config.parse import ConfigError, Credentials, Problem, Reading, load, make_draft

__all__ = ["ConfigError", "Credentials", "Problem", "Reading", "load", "make_draft"]

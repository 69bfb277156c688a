"""What the operator asked for: text in, one frozen Config or all problems out."""

from sillyproxy.config.parse import ConfigError, Problem, Reading, load

__all__ = ["ConfigError", "Problem", "Reading", "load"]

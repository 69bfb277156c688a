"""What the operator asked for: text in, one frozen Config or all problems out."""

from sillyproxy.config.parse import ConfigError, Problem, load

__all__ = ["ConfigError", "Problem", "load"]

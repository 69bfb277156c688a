"""Is the new color as good as the old one: what happened, percentiles, comparisons in words. Pure."""

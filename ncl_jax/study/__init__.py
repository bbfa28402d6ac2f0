"""Studies: variants x seeds, each a run of its own, measured by one protocol and summed up as tables and a page."""

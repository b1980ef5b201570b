"""Label maps of any tool against a truth: pairs, scores, tables, page."""

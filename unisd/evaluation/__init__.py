"""Scores, perplexities, comparisons and the report."""

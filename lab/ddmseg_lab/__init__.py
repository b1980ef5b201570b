"""Commands that measure every figure of ``docs/results.md``; run them from the repository.

Each writes its raw figures to ``results/NAME.tsv`` and what they add up to, in JSON,
beside it; ``ddmseg report`` makes the page of the summaries.
"""

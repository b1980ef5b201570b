"""From the files under ``results/`` to the page of results: no figure without a raw file."""

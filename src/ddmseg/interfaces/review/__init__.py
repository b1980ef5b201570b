"""The review page: a server on this machine only, and what it sends to the browser."""

"""Studies: one question each, measured on weights that are already trained.

``study`` says what a study is and ``registry`` which there are; ``encoded`` puts a subject
through a model, ``raw`` keeps what was measured, ``findings`` and ``figures`` say and show it,
``run`` joins them.  A new study is one file and one line in the registry.
"""

DEFAULT_MODEL = "hippocampus"
"""The shipped model that has real test scans."""

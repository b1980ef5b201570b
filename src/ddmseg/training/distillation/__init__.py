"""A teacher and its student, a smaller network (``ddmseg distill``)."""

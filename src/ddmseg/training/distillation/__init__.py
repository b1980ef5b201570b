"""A teacher and its student: fewer steps, or a smaller network (``ddmseg distill``)."""

"""A latency contract: as much diffusion as fits into the seconds that the user gives.

``costs`` turns rates of a machine and sizes of a scan into seconds, ``plan`` chooses what
fits, both without a clock; ``calibration`` measures the rates, ``deadline`` holds the
clock, ``spending`` follows the plan and stops before it is too late.
"""

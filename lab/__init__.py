"""The hypervisor-and-container comparison lab: one workload, every way of isolating, one honest clock."""

__version__ = "0.1.0"

"""Degradation: drawn parameters of the degraded view, and its steps on a CPU and on a device."""

"""Degradation: the degraded view, its drawn parameters, and the steps on a CPU and on a device."""

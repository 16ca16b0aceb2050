"""Packing: photographs become aligned faces, record files and pair sets, and can be looked into."""

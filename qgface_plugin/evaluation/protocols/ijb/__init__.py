"""Protocols of IJB-B and IJB-C: files, templates, 1:1 and 1:N, and InsightFace's own tool beside them."""

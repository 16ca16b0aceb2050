"""Reports: saved results, tables and plots of them."""

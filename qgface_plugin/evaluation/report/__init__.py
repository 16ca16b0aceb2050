"""Reports: saved results, and tables and plots of them."""

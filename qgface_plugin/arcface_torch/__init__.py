"""The way into an arcface_torch checkout: its seams, what stands at them, attach and doctor."""

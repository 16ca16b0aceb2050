"""ONNX encoders as PyTorch modules that can be trained: a network that is known here, or one that keeps its graph."""

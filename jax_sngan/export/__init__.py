"""A trained generator for other programs: StableHLO, ONNX, a page for the browser."""

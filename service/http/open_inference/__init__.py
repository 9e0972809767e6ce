"""The Open Inference Protocol, version 2, over HTTP: the API of KServe and Triton."""

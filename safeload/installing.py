"""`safeload.install()`: code that calls `torch.load` itself gets `safeload.load`, without being touched."""

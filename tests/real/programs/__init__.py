"""Programs as their packages' own pages show them: each loads its model files through its package's code, and prints digests.

Nothing here knows of safeload. `tests/real/test_programs.py` runs each as it is and under `safeload run`.
"""

"""Programs that let a library write checkpoints into the working directory and read them back, and print digests of what came back.

Nothing here knows of safeload. `tests/real/test_libraries.py` runs each as it is and under `safeload run`.
"""

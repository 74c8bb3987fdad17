"""What a fresh interpreter runs first. These files are run by path, in interpreters that may not know safeload."""

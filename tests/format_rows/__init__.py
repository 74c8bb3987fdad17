"""One module per family of formats, each with `ROWS`; see tests/formats_page.py."""

"""What is to be known of facejax on an accelerator, by one command: see `__main__.py`."""

"""Reading and caching medical images."""

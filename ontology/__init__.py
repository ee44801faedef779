"""Report text to medical meta-entities; it stands alone."""

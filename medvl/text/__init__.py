"""Report text: its sections and its sentences, for whoever reads reports."""

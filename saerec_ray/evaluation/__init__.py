"""Accuracy and completeness, measured with the scoring code of the server."""

"""What a finished run is worth, in parts that can be measured alone, with the scoring code of the server."""

"""The sequence encoder with personal and public intent branches, and its trainer."""

"""Commands that people give to a journal folder: look, resend, reprice, purge, move."""

"""Operations of people on a journal: look, resend, purge, adopt."""

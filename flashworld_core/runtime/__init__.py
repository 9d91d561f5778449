"""Where networks run and what memory they take."""

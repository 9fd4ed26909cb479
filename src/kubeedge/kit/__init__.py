"""Small tools that could each be a library: no word of our domain in here."""

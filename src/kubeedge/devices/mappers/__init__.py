"""Mappers that the agent runs, on machines where nobody else would."""

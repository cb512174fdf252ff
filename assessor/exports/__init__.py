"""Catalog and assessment in other tools' words: OSCAL, CSV, Markdown. Nothing is judged here."""

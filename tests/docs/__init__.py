"""The pages of the documentation: their code runs, their tables are whole, their paths and links exist."""

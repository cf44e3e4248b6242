"""Tools that every room uses: one-line errors, atomic files, processes, terminal, statistics."""

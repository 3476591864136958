"""Fast paths of single formulas, each beside the plain one it must equal."""

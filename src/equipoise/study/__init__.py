"""Studies: many runs by one plan that answer a question about scalarization, with their analysis."""

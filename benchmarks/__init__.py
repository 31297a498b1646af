"""One script per claim of speed; each prints both sides, their ratio and the bound."""

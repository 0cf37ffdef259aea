"""The cache without I/O: what is stored, read and agreed on, and the plans of it; others perform them."""

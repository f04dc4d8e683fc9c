"""`loadgen mapping`: a first mapping for somebody's table, from its names, types and values, with a reason for each guess."""

"""What is said between the parts: messages, topics, errors.  No I/O, no framework."""

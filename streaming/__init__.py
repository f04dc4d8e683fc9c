"""What is decided, live: transactions in, exactly one verdict each out."""

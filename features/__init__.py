"""What is remembered of an account or a counterparty, and what the model is told.  Serving and training share it."""

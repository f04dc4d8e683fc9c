"""The world outside: makes or replays transactions and labels, and reads what comes back."""

"""One file a question.  `make bench` runs drain and open_loop, `make handbook DATA=…` the trial on published data."""

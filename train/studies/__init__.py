"""Studies of training: small runs that settle a question, each a command of `train study`."""

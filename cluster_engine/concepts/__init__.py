"""What a group of episodes has in common: concepts, their bindings and their hierarchy."""

"""Stories: a script in plain text, shots that are made once and kept, and the film of them."""

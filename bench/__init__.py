"""One script per published number; each writes its JSON, with the machine named, into results/."""

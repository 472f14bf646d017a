"""Photos and labels in, a checked LLaMA-Factory data set directory out. Needs neither torch nor ray."""

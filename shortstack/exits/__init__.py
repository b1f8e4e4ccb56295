"""How good a model's early exits are, and whether speculating with them pays.

options     what is asked for, and what is wrong with it, before anything takes long
prompts     prompts that fit the model
run         the long part, stage by stage (torch)
reading     the model's own text, and what every exit made of it (torch)
outlook     the grid of static settings replayed over texts, for one kind of text or all
report      the whole as one value, and its JSON
advice      whether it pays, and why not
view        tables for a terminal
plot        heat-maps and curves for a picture
"""

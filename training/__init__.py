"""Training recipes: models whose shallow layers can draft for the whole of them.

recipe.py     the formulas of LayerSkip, without tensors
layerskip.py  forward pass with layer dropout, loss at every exit
model.py      the Llama stack that is trained, with Hugging Face parameter names
data.py       texts and batches
tokenizer.py  made from the texts, kept with the model
train.py      the run
export.py     a Hugging Face directory out of a model
evaluate.py   agreement and cross-entropy of every exit
card.py       the model card
"""

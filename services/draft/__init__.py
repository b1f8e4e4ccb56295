"""The draft worker: runs the shallow layers in the verify worker's memory; owns nothing."""

"""Layer types: values and gradients of each."""

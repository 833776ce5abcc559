"""The paper's figures, one a module, from a finished folder; what takes long is kept beside them."""

"""How steep a discriminator is at most and at least, layer by layer and as a whole."""

"""Foreign networks become one thing at the edge: f(x_t, t, cond) -> x0_hat, with encode and decode."""

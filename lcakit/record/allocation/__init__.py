"""Path integrals of the gradient: quadrature rules, their refinement, and who computes them."""

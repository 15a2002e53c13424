"""Whether reward alone teaches a policy to chain hops. ``python -m benchmarks.reasoning``."""

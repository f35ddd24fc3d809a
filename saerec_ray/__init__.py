"""Train, serve, explain and steer an intent-based recommender.

Kept empty of imports so that `saerec_ray.client` works without torch and ray.
"""

__version__ = "0.1.0"

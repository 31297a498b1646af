"""The same stages on a Ray cluster: data in parallel, training in parallel, replicas of the service.

Nothing else in the package knows Ray; it comes with the extra ``storerec[ray]``.
"""

from storerec.scale.config import RayConfig

__all__ = ["RayConfig"]

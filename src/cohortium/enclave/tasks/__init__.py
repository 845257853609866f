"""Built-in tasks: programs over tables that an executor starts with plain files in and out.

They run inside a sandbox with NumPy, pandas and, some, scikit-learn, and import nothing else of
Cohortium. `cohortium.enclave.builtin` has their manifests; ``main.py`` starts them.
"""

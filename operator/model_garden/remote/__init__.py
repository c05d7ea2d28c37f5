"""Remote storage: reads data sets and models from ``s3://``, ``gs://`` and ``https://``, and writes models.

``fetch`` brings what a job names into a cache and returns its folder. ``push`` writes a folder. ``stores`` is the only
module that uses the network: obstore for buckets, httpx for web servers.
"""

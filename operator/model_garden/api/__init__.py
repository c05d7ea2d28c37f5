"""The REST API: FastAPI over the services. Routes stay thin; what they do stands in ``services``."""
